"""A lock on a folder, so that two commands do not write to it at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nextscale.errors import InputError
from nextscale.io.files import make_folder

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[list[int]]:
    """Context manager that locks a folder.

    Yields the file descriptors of the lock. A child process that inherits them holds the lock while it runs, even if
    this process is killed. On systems without ``fcntl`` (Windows) nothing is locked.

    Raises:
        InputError: another command holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        yield []
        return
    with (make_folder(folder) / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another command is writing to {folder}: wait until it has finished") from error
        yield [file.fileno()]
