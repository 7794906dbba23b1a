"""The folder of a training run: recipe, log, TensorBoard events, previews, checkpoints."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from nextscale.data.held_out import VAL_FRACTION
from nextscale.data.splits import absolute_name
from nextscale.errors import InputError
from nextscale.imaging.images import save_image
from nextscale.io.checkpoint_folder import incomplete_checkpoints, newest_checkpoint
from nextscale.io.config import as_record
from nextscale.io.files import atomic_file, read_json, write_json
from nextscale.io.json_text import parse_json
from nextscale.io.lock import locked_by_main
from nextscale.io.renamed import with_current_names
from nextscale.runtime.distributed import all_mean, all_sum, barrier, gather_texts, is_main, world_size
from nextscale.training.recipes import Recipe, RecipeT

RECIPE = "recipe.json"
LOG = "log.jsonl"
FORMER_TASKS = {"train var": "train transformer"}
"""Task names in recipe.json of older versions, and their current names."""
NOT_RECORDED = {"keep_classes": False, "val_fraction": 0.0}
"""Inputs that older versions did not record, and the values that they used."""


class Run:
    """The folder of a training run. With several processes, only the main one writes and prints.

    Args:
        folder: created if it does not exist.
        inputs: the task, the data and the models that the run starts from.
        recipe: how to train. Inputs and recipe together determine the trained weights.

    Raises:
        InputError: the folder is not writable, or holds a model, or a run with other inputs or another recipe, or
            another command is writing to it.
    """

    def __init__(self, folder: Path, recipe: Recipe, inputs: dict[str, Any]):
        self.folder = folder
        self._board = None
        self._unreadable: set[str] = set()
        with ExitStack() as opened:
            opened.enter_context(locked_by_main(folder))
            self._begin(json.loads(json.dumps({"inputs": inputs, "recipe": as_record(recipe)})))
            self._lock = opened.pop_all()

    def _begin(self, ours: dict[str, Any]) -> None:
        """Check the folder, and write the recipe of a new run."""
        barrier()
        if is_begun(self.folder):
            check_same(self.folder, ours, read_json(self.folder / RECIPE))
        elif not (self.folder / RECIPE).is_file() and any(self.folder.glob("*.json")):
            raise InputError(f"{self.folder} holds a model: choose another folder for the run")
        elif is_main():
            write_json(self.folder / RECIPE, ours)
        barrier()

    def start_at(self, step: int) -> None:
        """Delete log lines after ``step``, the step of the checkpoint that the run resumes from."""
        if not is_main():
            return
        log = self.folder / LOG
        if log.is_file():
            lines = [line for line in log.read_text().splitlines(keepends=True) if _step_of(line) <= step]
            with atomic_file(log) as temporary:
                temporary.write_text("".join(lines))
        from torch.utils.tensorboard.writer import SummaryWriter

        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Append a line to ``log.jsonl``, and write its numbers to TensorBoard."""
        if not is_main():
            return
        with (self.folder / LOG).open("a") as file:
            file.write(json.dumps({"step": step} | values) + "\n")
        for name, value in values.items():
            for i, number in enumerate(value if isinstance(value, list) else [value]):
                if self._board and isinstance(number, int | float):
                    self._board.add_scalar(f"{name}/{i}" if isinstance(value, list) else name, number, step)

    def report_skipped(self, step: int, names: Sequence[str]) -> None:
        """Print and log files that any process could not read, each file once. All processes must call this."""
        for name in gather_texts(names):
            if name not in self._unreadable:
                self._unreadable.add(name)
                self.say(f"skipped ({len(self._unreadable)} so far): {name}")
                self.log(step, {"unreadable": name})

    def save_preview(self, step: int, image: Image.Image) -> None:
        """Save an image to ``previews/step-00001000.png``."""
        if is_main():
            save_image(image, self.folder / "previews" / f"step-{step:08d}.png")

    def say(self, text: str) -> None:
        """Print a line to standard error. A closed terminal does not stop the run; a closed pipe does."""
        if is_main():
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise

    def close(self) -> None:
        """Close the TensorBoard file, and let other commands write to the folder. Call this at least once."""
        if self._board:
            self._board.close()
        self._lock.close()


def is_begun(folder: Path) -> bool:
    """Return whether the folder has a checkpoint, complete or not."""
    return bool(newest_checkpoint(folder) or incomplete_checkpoints(folder))


def begun_precision(folder: Path) -> Any:
    """Return the precision of the run in a folder, or "auto" if there is no run.

    Raises:
        InputError: the recipe of the run cannot be read.
    """
    earlier = read_json(folder / RECIPE) if is_begun(folder) else {}
    recipe = earlier.get("recipe") if isinstance(earlier, dict) else {}
    return recipe.get("precision", "auto") if isinstance(recipe, dict) else "auto"


def settled_fraction(val_fraction: float | None, folder: Path) -> float:
    """Return the fraction of images to hold out: if None, that of the run in the folder, or else `VAL_FRACTION`.

    Raises:
        InputError: see `begun_precision`.
    """
    if val_fraction is not None:
        return val_fraction
    earlier = read_json(folder / RECIPE) if is_begun(folder) else None
    return VAL_FRACTION if earlier is None else recorded_fraction(earlier)


def recorded_fraction(content: Any) -> float:
    """Return the fraction of images that a run held out, from the content of ``recipe.json``."""
    inputs = content.get("inputs") if isinstance(content, dict) else {}
    found = {**NOT_RECORDED, **inputs}["val_fraction"] if isinstance(inputs, dict) else 0.0
    return found if isinstance(found, int | float) else 0.0


def trained_fraction(model: str, data: str) -> float | None:
    """Return the fraction of a data set that was held out when a model was trained on it.

    None means unknown: the model is not in the folder of a run, or its run has other data.
    """
    place = Path(model).resolve()
    folder = next((path for path in (place, *place.parents[1:2]) if (path / RECIPE).is_file()), None)
    content = read_json(folder / RECIPE) if folder else {}
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if isinstance(inputs, dict) and isinstance(inputs.get("cache"), dict):
        inputs = inputs["cache"]
    known = isinstance(inputs, dict) and inputs.get("data") == absolute_name(data)
    return recorded_fraction({"inputs": inputs}) if known else None


def settled(recipe: RecipeT, folder: Path, device: torch.device) -> RecipeT:
    """Replace the precision auto by that of the run in the folder, or by the default of the device if there is no run.

    Raises:
        InputError: see `begun_precision`.
    """
    if recipe.precision == "auto":
        recipe = dataclasses.replace(recipe, precision=begun_precision(folder))
    return recipe.on(device)


def check_same(folder: Path, ours: dict[str, Any], theirs: Any) -> None:
    """Raise InputError if a run was started with other inputs or another recipe. Old names in files are accepted."""
    theirs = with_current_names(theirs) if isinstance(theirs, dict) else {}
    for part, fields in ours.items():
        earlier = theirs.get(part) if isinstance(theirs.get(part), dict) else {}
        for name, value in fields.items():
            before = earlier.get(name, NOT_RECORDED.get(name))
            if name == "task" and before in FORMER_TASKS:
                before = FORMER_TASKS[before]
            if before != value:
                raise InputError(
                    f"{folder} holds a run with {name} {earlier.get(name, NOT_RECORDED.get(name))}, not {value}: "
                    "repeat its command to resume it, or choose another folder"
                )


class Meter:
    """Running means of the training metrics and of the speed since the last `read`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Reset all values."""
        self._values: dict[str, list[torch.Tensor]] = {}
        self._images = 0
        self._seconds = 0.0
        self._waited = 0.0

    def add(self, metrics: dict[str, torch.Tensor], images: int, seconds: float, waited: float) -> None:
        """Add the metrics of a step, its images, its duration, and the part of the duration spent waiting for data."""
        for name, value in metrics.items():
            self._values.setdefault(name, []).append(value)
        self._images += images
        self._seconds += seconds
        self._waited += waited

    def read(self) -> dict[str, Any]:
        """Return the mean of each metric over steps and processes, and clear.

        Steps without a value (NaN) do not count; None stands for a value that no step has. Also returns
        ``images_per_second``, and ``data_wait``, the fraction of time spent waiting for data.
        """
        means = {name: all_mean(mean_of(torch.stack(v).double())) for name, v in self._values.items()}
        values: dict[str, Any] = {name: known(mean.tolist()) for name, mean in means.items()}
        values["images_per_second"] = self._images / self._seconds
        values["data_wait"] = float(all_sum(torch.tensor(self._waited / self._seconds))) / world_size()
        self.clear()
        return values


def mean_of(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over the first axis, without NaN."""
    return values.nanmean(0) if values.isnan().any() else values.mean(0)


def known(value: Any) -> Any:
    """Return numbers with None in place of NaN, which JSON does not have."""
    return [None if math.isnan(part) else part for part in value] if isinstance(value, list) else value


def _step_of(line: str) -> float:
    """Return the step of a log line, or infinity for an incomplete line."""
    try:
        return parse_json(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
