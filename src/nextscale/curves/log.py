"""Read the log of a training run: series of metrics over training steps."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextscale.errors import InputError
from nextscale.io.config import as_config
from nextscale.io.files import read_json
from nextscale.io.json_text import parse_json
from nextscale.io.renamed import with_current_names
from nextscale.scales.schedule import ScaleSchedule

LOG = "log.jsonl"
FEW = 20
"""Smoothing averages at most 1 / `FEW` of the values so far."""


@dataclass(frozen=True)
class Series:
    """A metric over training steps.

    Args:
        steps: (n,) ascending steps at which the metric was logged.
        values: (n,), or (n, K) with one value for each scale; NaN for a missing value.
    """

    steps: np.ndarray
    values: np.ndarray

    def smoothed(self, count: int) -> Series:
        """Return running means over the last ``count`` values, but at most 1 / `FEW` of the values so far.

        The steep start and short series are therefore not smoothed.
        """
        ends = np.arange(1, len(self.steps) + 1)
        starts = ends - np.minimum(count, 1 + (ends - 1) // FEW)
        known = np.isfinite(self.values)
        middle = np.where(known, self.values, 0).mean(axis=0)  # subtracted to reduce rounding errors of the sums
        sums, counts = (
            np.concatenate([part[:1] * 0, part.cumsum(axis=0)])
            for part in (np.where(known, self.values - middle, 0), known.astype(float))
        )
        sums, counts = sums[ends] - sums[starts], counts[ends] - counts[starts]
        return Series(self.steps, np.where(counts > 0, middle + sums / np.maximum(counts, 1), np.nan))


@dataclass(frozen=True)
class RunLog:
    """The metrics of a run, and the sizes needed to compare it with other runs.

    Args:
        name: name of the run in plots and messages.
        series: the metrics by their names.
        batch_size: images per step; None if unknown.
        codebook_size: V of the tokens that a transformer predicts; None if unknown, or for a tokenizer.
        sizes: (h, w) of each scale; empty if unknown.
    """

    name: str
    series: dict[str, Series]
    batch_size: int | None = None
    codebook_size: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()

    @property
    def predicts_tokens(self) -> bool:
        """Whether the loss is the cross-entropy of tokens, as for a transformer."""
        return "scale_loss" in self.series or "last_scale_loss" in self.series

    @property
    def tokens(self) -> int:
        """Number of tokens of an image; 0 if unknown."""
        return sum(h * w for h, w in self.sizes)

    @property
    def chance(self) -> float | None:
        """ln V, the loss of uniform guessing."""
        return math.log(self.codebook_size) if self.codebook_size else None


def read_run(folder: Path, name: str | None = None) -> RunLog:
    """Read the log of a run, which may still be running.

    Raises:
        InputError: the run does not exist, or its log is empty or damaged.
    """
    found: dict[str, list[tuple[float, Any]]] = {}
    for line in read_lines(folder / LOG):
        for figure, value in line.items():
            if figure != "step" and numbers(value):
                found.setdefault(figure, []).append((line["step"], value))
    series = {figure: make_series(rows) for figure, rows in found.items()}
    series = {figure: logged for figure, logged in series.items() if np.isfinite(logged.values).any()}
    if not series:
        raise InputError(f"{folder / LOG} has no metrics yet: expected at least one complete line")
    recipe = as_object(as_object(read_json_if_there(folder / "recipe.json")).get("recipe"))
    config = model_config(folder)
    return RunLog(
        name or folder.resolve().name,
        series,
        batch_size=recipe.get("batch_size"),
        codebook_size=config.get("codebook_size") if "scale_loss" in series else None,
        sizes=sizes_of(config),
    )


def sizes_of(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return the sizes of the scales of a model's config; () if it has none."""
    try:
        return as_config(ScaleSchedule, config.get("schedule")).sizes  # type: ignore[type-var]
    except InputError:
        return ()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log. An incomplete last line, which the run may be writing, is skipped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"no log {path} ({error.strerror}): expected the folder of a training run") from error
    read = []
    for number, text in enumerate(lines, start=1):
        try:
            line = parse_json(text)
            if not isinstance(line["step"], int | float):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise InputError(f'{path}, line {number}, is not a line of a log: expected {{"step": 1, ...}}') from error
        read.append(with_current_names(line))
    return read


def numbers(value: Any) -> list[float]:
    """Return a metric as a list with one number, or one for each scale; empty for texts and other values."""
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, int | float) for part in parts):
        return []
    return [math.nan if part is None else float(part) for part in parts]


def make_series(rows: list[tuple[float, Any]]) -> Series:
    """Make a series from (step, number or list of numbers) of each line."""
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
    """Read config.json of the newest checkpoint, else of the transformer's tokenizer; {} if there is neither."""
    checkpoints = sorted(folder.glob("checkpoints/step-*/config.json"), reverse=True)
    for path in (*checkpoints, folder / "tokenizer" / "config.json"):
        if config := as_object(read_json_if_there(path)):
            return config
    return {}


def read_json_if_there(path: Path) -> Any:
    """Read a JSON file, or return None if it is missing, because a running training deletes old checkpoints."""
    with contextlib.suppress(InputError):
        return read_json(path)


def as_object(content: Any) -> dict[str, Any]:
    """Return the content if it is a JSON object, else {}."""
    return content if isinstance(content, dict) else {}
