"""Does an image show what its prompt says? A reading is compared with what is expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.evaluation.scene_reader import Found, Reading

ROW, COLUMN = ("left of", "right of"), ("above", "below", "flying over")


@dataclass(frozen=True)
class Expected:
    """What an image should show."""

    objects: tuple[str, ...]
    """One or two names."""
    count: int
    """How many of each object."""
    relation: str
    """How the first object lies relative to the second one; empty for one object."""
    style: str
    background: str

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str) -> Expected:
        """Return what a line of a file of prompts says.

        Raises:
            InputError: a field is missing or has another type.
        """
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in row]:
            raise InputError(f"{where} lacks {', '.join(missing)}, which a reader needs: expected {', '.join(names)}")
        objects, count, *texts = (row[name] for name in names)
        if not isinstance(objects, list) or len(objects) not in (1, 2) or not all(isinstance(o, str) for o in objects):
            raise InputError(f"{where} must name one or two objects, not {brief(objects)}")
        if type(count) is not int or count < 1:
            raise InputError(f"the count of {where} must be an integer of at least 1, not {brief(count)}")
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"relation, style and background of {where} must be texts, not {brief(texts)}")
        if (len(objects) == 2) != (texts[0] in ROW + COLUMN):
            raise InputError(f"{where} has {len(objects)} objects and the relation {texts[0]!r}, which do not fit")
        return cls(tuple(objects), count, *texts)


@dataclass(frozen=True)
class Verdict:
    """Which parts of an image are right. None: the prompt does not ask for this."""

    present: bool
    """Every named object is there at least once."""
    count: bool | None
    """A prompt for one object: it is there as often as it should be."""
    relation: bool | None
    """A prompt for two objects: both are there, and lie as they should."""
    style: bool
    background: bool
    everything: bool
    """All of these are right, each object is there as often as it should be, and there is no other object."""


ASPECTS = tuple(field.name for field in fields(Verdict))


def judge(expected: Expected, reading: Reading) -> Verdict:
    """Compare what was read with what is expected."""
    counts = Counter(found.name for found in reading.objects)
    present = all(counts[name] for name in expected.objects)
    alone = len(expected.objects) == 1
    count = counts[expected.objects[0]] == expected.count if alone else None
    relation = None if alone else present and is_related(expected, reading.objects)
    style, background = reading.style == expected.style, reading.background == expected.background
    exact = counts == Counter(dict.fromkeys(expected.objects, expected.count))
    right = present and count is not False and relation is not False and style and background and exact
    return Verdict(present, count, relation, style, background, right)


def is_related(expected: Expected, found: Sequence[Found]) -> bool:
    """Return whether the most certain finds of both objects lie as expected."""
    first, second = (next(one for one in found if one.name == name) for name in expected.objects)
    down, across = second.row - first.row, second.column - first.column
    if expected.relation in ROW:
        return abs(across) > abs(down) and (across > 0) == (expected.relation == "left of")
    return abs(down) > abs(across) and (down > 0) == (expected.relation != "below")


@dataclass(frozen=True)
class Scores:
    """The fraction of images in which a part is right, and how many images were asked for it."""

    fractions: dict[str, float | None]
    """By the names of `Verdict`; None if no image was asked for it."""
    counts: dict[str, int]


def total(verdicts: Sequence[Verdict]) -> Scores:
    """Return the scores of several images."""
    fractions: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for aspect in ASPECTS:
        answers = [value for verdict in verdicts if (value := getattr(verdict, aspect)) is not None]
        fractions[aspect], counts[aspect] = sum(answers) / len(answers) if answers else None, len(answers)
    return Scores(fractions, counts)


def best_of(verdicts: Sequence[Sequence[Verdict]]) -> list[float]:
    """Return for n = 1, 2, ... tries the fraction of prompts with everything right in one of the first n tries.

    Args:
        verdicts: for each prompt, the verdict of each try.
    """
    tries = min(map(len, verdicts))
    return [sum(any(v.everything for v in row[: n + 1]) for row in verdicts) / len(verdicts) for n in range(tries)]
