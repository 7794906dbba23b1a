"""Checkpoints of a training run: a folder each, written whole or not at all.

``RUN/checkpoints/step-00001000/`` holds ``config.json`` and ``model.safetensors`` (the EMA weights, loadable like any
model) and ``state.safetensors`` (all that resuming needs). No pickles.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nextscale.errors import InputError
from nextscale.files import make_folder, read_tensors, write_json, write_tensors
from nextscale.weights import CHECKPOINTS, CONFIG, STATE, WEIGHTS, newest_checkpoint

KEPT = 2


def save_checkpoint(
    run: Path, step: int, config: Any, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Path:
    """Write the checkpoint of a step and delete all but the newest two.

    The folder gets its name when it is complete, so a process killed on the way leaves the earlier ones untouched.

    Raises:
        InputError: the disk is full or not writable.
    """
    folder = run / CHECKPOINTS / f"step-{step:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    write_json(temporary / CONFIG, dataclasses.asdict(config))
    write_tensors(temporary / STATE, state)
    write_tensors(temporary / WEIGHTS, weights)
    try:
        for file in temporary.iterdir():
            _flush(file)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        _flush(folder.parent)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    for old in sorted((run / CHECKPOINTS).glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_checkpoint(run: Path) -> tuple[int, dict[str, Tensor], dict[str, Tensor]] | None:
    """(step, EMA weights, state) of the newest checkpoint; None if there is none.

    Raises:
        InputError: the checkpoint is damaged.
    """
    folder = newest_checkpoint(run)
    if folder is None:
        return None
    return int(folder.name.removeprefix("step-")), read_tensors(folder / WEIGHTS), read_tensors(folder / STATE)


def _flush(path: Path) -> None:
    """Make sure that a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
