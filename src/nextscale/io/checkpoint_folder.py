"""Find the checkpoints of a training run: ``RUN/checkpoints/step-00001000/``, written by `nextscale.io.checkpoint`."""

from __future__ import annotations

from pathlib import Path

from nextscale.io.files import read_json

CHECKPOINTS = "checkpoints"
STATE = "state"
FILES = "files.json"
"""The file with the sizes of all other files, to recognise incomplete checkpoints."""


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the folder of a checkpoint of a run."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def newest_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint folder of a training run, or None if there is none."""
    folders = sorted((run / CHECKPOINTS).glob("step-*"), key=checkpoint_step, reverse=True)
    return next((folder for folder in folders if is_complete(folder)), None)


def has_reached(run: Path, step: int) -> bool:
    """Return whether a training run has a complete checkpoint of a step or of a later one."""
    newest = newest_checkpoint(run)
    return newest is not None and checkpoint_step(newest) >= step


def incomplete_checkpoints(run: Path) -> list[Path]:
    """Return the incomplete checkpoint folders that are newer than the newest complete one."""
    complete = newest_checkpoint(run)
    newest = checkpoint_step(complete) if complete else -1
    return sorted(folder for folder in (run / CHECKPOINTS).glob("step-*") if checkpoint_step(folder) > newest)


def checkpoint_step(folder: Path) -> int:
    """Return the step in the name of a checkpoint folder, such as 1000 for ``step-00001000``; -1 for other names."""
    digits = folder.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint has all files that it lists, each with the listed size."""
    try:
        sizes = read_json(checkpoint / FILES)
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False
