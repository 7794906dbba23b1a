"""Tables of scores, and the scores of a reader on real renders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from nextscale.errors import InputError, brief
from nextscale.evaluation.scene_agreement import ASPECTS, Scores
from nextscale.evaluation.scene_reader import CEILING
from nextscale.io.config import as_config
from nextscale.io.files import read_json, write_json

WORDS = {
    "present": "every object present",
    "count": "count right",
    "relation": "relation right",
    "style": "style right",
    "background": "background right",
    "everything": "everything right",
}


def score_table(columns: Mapping[str, Scores]) -> str:
    """Return a row for each part of a verdict, and a column for each set of images."""
    width = max(map(len, WORDS.values()))
    widths = [max(len(name), 15) for name in columns]
    lines = ["  ".join([" " * width, *(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True))])]
    for aspect in ASPECTS:
        cells = [share_of(scores, aspect) for scores in columns.values()]
        lines.append(
            "  ".join([f"{WORDS[aspect]:<{width}}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))])
        )
    return "\n".join(lines)


def share_of(scores: Scores, aspect: str) -> str:
    """Return a score in words: ``93.5% of 1000``."""
    fraction = scores.fractions[aspect]
    return "none" if fraction is None else f"{fraction:.1%} of {scores.counts[aspect]}"


def write_ceiling(folder: Path, ceiling: Mapping[str, Scores]) -> None:
    """Write ``reader.json``: for each kind of real renders, the scores."""
    write_json(folder / CEILING, {kind: asdict(scores) for kind, scores in ceiling.items()})


def read_ceiling(folder: Path) -> dict[str, Scores]:
    """Read ``reader.json``.

    Raises:
        InputError: the file is missing or damaged.
    """
    content = read_json(folder / CEILING)
    if not isinstance(content, dict):
        raise InputError(f"{folder / CEILING} must be an object with scores, not {brief(content)}")
    return {str(kind): as_config(Scores, scores) for kind, scores in content.items()}
