"""The log of a training run: named figures, each over the steps at which it was logged."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextscale.errors import InputError
from nextscale.io.files import read_json
from nextscale.io.renamed import with_current_names

LOG = "log.jsonl"
FEW = 20


@dataclass(frozen=True)
class Series:
    """A figure over the steps, ascending, at which it was logged.

    Args:
        steps: (n,)
        values: (n,), or (n, K) with one value for each scale; NaN where there is none.
    """

    steps: np.ndarray
    values: np.ndarray

    def smoothed(self, count: int) -> Series:
        """Each value becomes the mean of the last ``count`` up to it, but of no more than one in `FEW` so far.

        Thus the steep beginning stays as it is, and so does a series of few values.
        """
        ends = np.arange(1, len(self.steps) + 1)
        starts = ends - np.minimum(count, 1 + (ends - 1) // FEW)
        known = np.isfinite(self.values)
        middle = np.where(known, self.values, 0).mean(axis=0)  # sums around it lose less to rounding
        sums, counts = (
            np.concatenate([part[:1] * 0, part.cumsum(axis=0)])
            for part in (np.where(known, self.values - middle, 0), known.astype(float))
        )
        sums, counts = sums[ends] - sums[starts], counts[ends] - counts[starts]
        return Series(self.steps, np.where(counts > 0, middle + sums / np.maximum(counts, 1), np.nan))


@dataclass(frozen=True)
class RunLog:
    """What a run has logged, and what is needed to compare it with others.

    Args:
        batch_size: images in a step, if known.
        codebook_size: V of the tokens that a transformer guesses, if known; a tokenizer's run has none here.
        sizes: (h, w) of each scale, if known.
    """

    name: str
    series: dict[str, Series]
    batch_size: int | None = None
    codebook_size: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def guesses_tokens(self) -> bool:
        """Whether the loss is the cross-entropy of tokens: a transformer's run, not a tokenizer's."""
        return "scale_loss" in self.series or "last_scale_loss" in self.series

    @property
    def chance(self) -> float | None:
        """ln V, the loss of guessing all codes with equal probability."""
        return math.log(self.codebook_size) if self.codebook_size else None


def read_run(folder: Path, name: str | None = None) -> RunLog:
    """The log of a run, finished or still at work.

    Raises:
        InputError: no such run, or its log is empty or damaged.
    """
    found: dict[str, list[tuple[float, Any]]] = {}
    for line in read_lines(folder / LOG):
        for figure, value in line.items():
            if figure != "step" and numbers(value):
                found.setdefault(figure, []).append((line["step"], value))
    series = {figure: make_series(rows) for figure, rows in found.items()}
    series = {figure: logged for figure, logged in series.items() if np.isfinite(logged.values).any()}
    if not series:
        raise InputError(f"{folder / LOG} has no figures yet: expected at least one whole line")
    recipe = as_object(as_object(read_json_if_there(folder / "recipe.json")).get("recipe"))
    config = model_config(folder)
    return RunLog(
        name or folder.resolve().name,
        series,
        batch_size=recipe.get("batch_size"),
        codebook_size=config.get("codebook_size") if "scale_loss" in series else None,
        sizes=tuple((h, w) for h, w in as_object(config.get("schedule")).get("sizes", ())),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log. The last may be cut short, as the run may be writing it: then it is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"no log {path} ({error.strerror}): expected the folder of a training run") from error
    read = []
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line["step"], int | float):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise InputError(f'{path}, line {number}, is no line of a log: expected {{"step": 1, ...}}') from error
        read.append(with_current_names(line))
    return read


def numbers(value: Any) -> list[float]:
    """A figure as one number for each scale, or as one number alone; nothing where it is a text or the like."""
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, int | float) for part in parts):
        return []
    return [math.nan if part is None else float(part) for part in parts]


def make_series(rows: list[tuple[float, Any]]) -> Series:
    """(step, one number or a list) of each line -> Series."""
    steps = np.array([step for step, _ in rows], dtype=float)
    found = [numbers(value) for _, value in rows]
    values = np.full((len(rows), max(map(len, found))), np.nan)
    for row, parts in zip(values, found, strict=True):
        row[: len(parts)] = parts
    if not any(isinstance(value, list) for _, value in rows):
        values = values[:, 0]
    order = np.argsort(steps, kind="stable")
    return Series(steps[order], values[order])


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of the newest checkpoint, else of the tokenizer that a transformer is trained with, else nothing."""
    checkpoints = sorted(folder.glob("checkpoints/step-*/config.json"), reverse=True)
    for path in (*checkpoints, folder / "tokenizer" / "config.json"):
        if config := as_object(read_json_if_there(path)):
            return config
    return {}


def read_json_if_there(path: Path) -> Any:
    """None where there is no such file, or not any more: a run at work removes its old checkpoints."""
    with contextlib.suppress(InputError):
        return read_json(path)


def as_object(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}
