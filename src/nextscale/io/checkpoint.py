"""Checkpoints of a training run: a folder each, written beside training, whole or not at all.

``RUN/checkpoints/step-00001000/`` holds ``config.json`` and ``model.safetensors`` (the EMA weights, loadable like any
model), ``state/`` (all that resuming needs, by torch.distributed.checkpoint, each process its part) and ``files.json``
(the size of every file: what was cut short is told by it). No pickles.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from nextscale.errors import InputError
from nextscale.io.files import make_folder, read_tensors, write_json, write_tensors
from nextscale.io.module_folder import CHECKPOINTS, CONFIG, FILES, STATE, WEIGHTS, checkpoint_step
from nextscale.runtime.distributed import barrier, is_main, side_group, world_size

KEPT = 2
TEMPORARY = ".{}.tmp"
"""What a checkpoint's folder is called until it is whole."""
ALONE = "state.safetensors"
"""The one file of a state that one process wrote."""


class CheckpointWriter:
    """Writes checkpoints of a run, one at a time, while training goes on; keeps the newest two.

    At the end of a ``with`` block, however it is left, what was saved is on the disk.
    """

    def __init__(self, run: Path):
        self.run = run
        self._threads = ThreadPoolExecutor(max_workers=1)
        self._group = side_group()
        self._writing: Future | None = None

    def __enter__(self) -> CheckpointWriter:
        if is_main():
            self._tidy()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def save(self, step: int, config: Any, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Copy everything, and begin to write it. All processes must call this.

        The folder gets its name when it is complete, so a process killed on the way leaves the earlier ones untouched.

        Args:
            weights: in full, of the model to sample with; the main process writes them.
            state: tensors that may be sharded.

        Raises:
            InputError: the checkpoint before this one could not be written, or this one's folder cannot be made.
        """
        self.wait()
        folder = self.run / CHECKPOINTS / f"step-{step:08d}"
        temporary = folder.with_name(TEMPORARY.format(folder.name))
        if is_main():
            shutil.rmtree(temporary, ignore_errors=True)
            make_folder(temporary / STATE)
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}
        barrier()
        if world_size() == 1:
            copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
            written = self._threads.submit(write_tensors, temporary / STATE / ALONE, copies)
        else:
            written = async_save(
                dict(state),
                storage_writer=HuggingFaceStorageWriter(str(temporary / STATE), save_distributed=True),
                process_group=self._group,
            )
            assert isinstance(written, Future)
        if is_main():
            written = self._threads.submit(finish, written, temporary, folder, config, weights)
        self._writing = written

    def wait(self) -> None:
        """Until what was saved is on the disk.

        Raises:
            InputError: it is not, as the disk is full or not writable; earlier checkpoints are kept.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except (Exception, CheckpointException) as error:  # the latter, no Exception, wraps what the disk says
            if is_main():
                self._tidy()
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot write a checkpoint in {self.run / CHECKPOINTS}: {last_line(error)}") from error

    def _tidy(self) -> None:
        """Delete what saves that were cut short have left: it takes as much disk as a checkpoint."""
        for folder in (self.run / CHECKPOINTS).glob(TEMPORARY.format("*")):
            shutil.rmtree(folder, ignore_errors=True)


def finish(written: Future, temporary: Path, folder: Path, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Once all processes have written their part: write the rest, and give the folder its name."""
    written.result()
    write_json(temporary / CONFIG, dataclasses.asdict(config))
    write_tensors(temporary / WEIGHTS, weights)
    files = [path for path in temporary.rglob("*") if path.is_file()]
    write_json(temporary / FILES, {str(path.relative_to(temporary)): path.stat().st_size for path in files})
    for path in (*files, temporary / FILES, temporary / STATE, temporary):
        flush(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    flush(folder.parent)
    for old in sorted(folder.parent.glob("step-*"), key=checkpoint_step)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The EMA weights of a checkpoint."""
    return read_tensors(folder / WEIGHTS)


def load_state(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Fill tensors, sharded or not, from a checkpoint, in whatever number of processes it was written.

    Raises:
        InputError: it is damaged, or of other tensors.
    """
    reader = HuggingFaceStorageReader(str(folder / STATE))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process needs none
            load(dict(state), storage_reader=reader, no_dist=world_size() == 1)
    except (Exception, CheckpointException) as error:
        raise InputError(f"cannot resume from {folder}: {last_line(error)}") from error


def flush(path: Path) -> None:
    """Make sure that a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
