"""Checkpoints of a training run, written in the background.

``RUN/checkpoints/step-00001000/`` contains ``config.json`` and ``model.safetensors`` (the EMA weights, loadable like
any model), ``state/`` (all tensors for resuming, written by torch.distributed.checkpoint, one part per process) and
``files.json`` (the size of every file, to recognise incomplete checkpoints). There are no pickles.
"""

from __future__ import annotations

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
from nextscale.io.checkpoint_folder import CHECKPOINTS, FILES, STATE, checkpoint_path, checkpoint_step
from nextscale.io.config import as_record
from nextscale.io.files import make_folder, write_json
from nextscale.io.module_folder import CONFIG, WEIGHTS, check_types
from nextscale.io.tensor_files import read_headers, read_tensors, write_tensors
from nextscale.runtime.distributed import barrier, is_main, side_group, world_size

KEPT = 2
TEMPORARY = ".{}.tmp"
"""Name of a checkpoint's folder until it is complete."""
ALONE = "state.safetensors"
"""The only file in ``state/`` if the run has one process."""


class CheckpointWriter:
    """Write the checkpoints of a run in the background, one at a time, and keep the newest two.

    When a ``with`` block ends, even by an exception, every saved checkpoint is on the disk.
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
        """Copy all tensors and start to write them. All processes must call this.

        The folder gets its final name when it is complete. If the process is killed earlier, previous checkpoints stay
        unchanged.

        Args:
            weights: the EMA weights, unsharded. The main process writes them.
            state: tensors for resuming, sharded or not.

        Raises:
            InputError: the previous checkpoint could not be written, or the folder of this one cannot be created.
        """
        self.wait()
        folder = checkpoint_path(self.run, step)
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
        """Wait until the saved checkpoint is on the disk.

        Raises:
            InputError: the disk is full or not writable. Earlier checkpoints are kept.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except (Exception, CheckpointException) as error:  # CheckpointException is not a subclass of Exception
            if is_main():
                self._tidy()
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot write a checkpoint in {self.run / CHECKPOINTS}: {last_line(error)}") from error

    def _tidy(self) -> None:
        """Delete the temporary folders of interrupted saves, which are as large as a checkpoint."""
        for folder in (self.run / CHECKPOINTS).glob(TEMPORARY.format("*")):
            shutil.rmtree(folder, ignore_errors=True)


def finish(written: Future, temporary: Path, folder: Path, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Wait for the state of all processes, write the other files, and give the folder its final name."""
    written.result()
    write_json(temporary / CONFIG, as_record(config))
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
    """Return the EMA weights of a checkpoint."""
    return read_tensors(folder / WEIGHTS)


def load_state(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint into tensors in place, sharded or not, regardless of the number of processes that wrote it.

    Raises:
        InputError: the checkpoint is damaged, or contains other tensors or other kinds of numbers.
    """
    reader = HuggingFaceStorageReader(str(folder / STATE))
    try:
        for path in sorted((folder / STATE).glob("*.safetensors")):
            check_types(state, read_headers(path), path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # not needed with one process
            load(dict(state), storage_reader=reader, no_dist=world_size() == 1)
    except (Exception, CheckpointException) as error:
        raise InputError(f"cannot resume from {folder}: {last_line(error)}") from error


def flush(path: Path) -> None:
    """Write a file, or the entries of a folder, from the system's cache to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, or the error's type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
