"""A lock on a folder, so that two commands do not write to it at the same time.

It is a lock of the operating system (flock). It ends with the process that holds it, even if that process is killed.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from nextscale.errors import InputError
from nextscale.io.files import make_folder
from nextscale.runtime.distributed import gather_texts, is_main
from nextscale.runtime.progress import say

LOCK = ".lock"
"""The locked file. It has the holder's process id and the name of its machine, and is deleted in the end."""
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""Errors of flock if another process holds the lock. Others mean that the file system has no locks."""

_held: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[list[int]]:
    """Context manager that locks a folder, and creates it if it does not exist.

    Yields the file descriptors of the lock. A command that inherits them (``pass_fds``) holds the lock while it runs,
    even if this process is killed. A forked process does not hold it. On a file system without locks, a note is
    printed; on systems without ``fcntl`` (Windows) nothing is locked.

    Raises:
        InputError: another command holds the lock, or the folder cannot be created or written to.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        make_folder(folder)
        yield []
        return
    path = make_folder(folder) / LOCK
    while True:
        file = open_lock(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                holder = read_holder(file)
                os.close(file)
                raise InputError(
                    f"another command is writing to {folder}{holder}: wait until it has finished, or choose another "
                    "folder"
                ) from error
            say(f"note: {folder} cannot be locked ({error.strerror}): make sure that no other command writes to it")
        if is_same(file, path):
            break
        os.close(file)  # the holder deleted the file after it was opened here
    forget_in_forks()
    _held.add(file)
    try:
        write_holder(file)
        yield [file]
    finally:
        _held.discard(file)
        with suppress(OSError):
            path.unlink()
        os.close(file)


@contextmanager
def locked_by_main(folder: Path) -> Iterator[None]:
    """Context manager in which the main process holds the lock for all processes. All of them must call this.

    Raises:
        InputError: see `locked`. Every process raises it.
    """
    with ExitStack() as stack:
        refused = ""
        if is_main():
            try:
                stack.enter_context(locked(folder))
            except InputError as error:
                refused = str(error)
        if message := "".join(gather_texts([refused])):
            raise InputError(message)
        yield


def open_lock(path: Path) -> int:
    """Open the file of a lock. A file of another user is opened for reading, which is enough on most file systems."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def is_same(file: int, path: Path) -> bool:
    """Return whether an open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def write_holder(file: int) -> None:
    """Write who holds the lock, for the message of other commands."""
    with suppress(OSError):  # a full disk, or a file of another user
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {platform.node()}".encode(), 0)


def read_holder(file: int) -> str:
    """Return who holds the lock in brackets, or an empty text if it is not known."""
    holder = os.pread(file, 200, 0).decode(errors="replace")
    return f" ({holder})" if holder.startswith("process ") and holder.isprintable() else ""


@cache
def forget_in_forks() -> None:
    """Close the files of locks in forked processes, which would otherwise hold the locks longer than this process."""
    os.register_at_fork(after_in_child=close_held)


def close_held() -> None:
    """Close the files of all locks of this process. Its parent still holds the locks."""
    for file in _held:
        os.close(file)
    _held.clear()
