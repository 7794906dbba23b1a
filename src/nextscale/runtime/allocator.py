"""Control the C library's allocator: return memory to the system, keep it, and reduce fragmentation."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PAGE = mmap.PAGESIZE
MADV_DONTNEED, MADV_PAGEOUT = 4, 21
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = -1
USUAL = ((M_MMAP_MAX, 65536), (M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26))
"""The settings that glibc adapts to in a process with large tensors."""
LARGE = 2**28
"""See `kept`."""
LESS_FRAGMENTATION = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""Environment variables that make glibc merge every freed block with its free neighbours."""
HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S{4} [0-9a-f]+ \S+ (\d+)")
"""The first line of a mapping in /proc/self/smaps: start, end, permissions, offset, device, inode (0: no file)."""


def page_out(tensors: Iterable[Tensor]) -> None:
    """Return the memory of some tensors, and all free memory, to the system. Linux only.

    The tensors stay valid. Those of a memory-mapped file are read from the file again on the next access; others may
    move to swap.
    """
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    unwritten = unwritten_mappings()
    for tensor in tensors:
        if tensor.device.type == "cpu":
            start = -(-tensor.data_ptr() // PAGE) * PAGE
            end = (tensor.data_ptr() + tensor.nbytes) // PAGE * PAGE
            if end > start:
                mapped = any(first <= start and end <= last for first, last in unwritten)
                advise(start, end - start, MADV_DONTNEED if mapped else MADV_PAGEOUT)
    trim()


def trim() -> None:
    """Return free memory to the system. Without this, the heap of each thread keeps its largest size. glibc only."""
    if library := glibc():
        library.malloc_trim(0)


@contextmanager
def kept(device: torch.device, largest: int = 0) -> Iterator[None]:
    """Context manager that keeps freed memory in this process, if the device is the CPU. glibc only.

    If the largest tensors have more than `LARGE` bytes, it does nothing: tensors of such sizes leave gaps of gigabytes.

    A training step allocates the sizes that the previous step freed, such as all gradients. A layer of a decoder
    allocates the sizes that the previous layer freed. Without this setting, the system would provide new pages filled
    with zeros. The setting applies to the whole process, so use it in commands, not in libraries.

    Args:
        largest: bytes of the largest tensors, if they are known.
    """
    library = glibc()
    if library is None or device.type != "cpu" or largest > LARGE:
        yield
        return
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        for setting, value in USUAL:
            library.mallopt(setting, value)
        trim()


def restart_with_less_fragmentation() -> None:
    """Restart this process with the variables of `LESS_FRAGMENTATION`. glibc only.

    Tensors are aligned, so glibc cuts each from a slightly larger free block and puts the small remainders into a cache
    for small objects (tcache). A remainder in this cache separates the free blocks beside it. In a training step,
    gradients then do not fit into the freed memory of activations, and d16 takes 0.3 GB more. glibc reads the variable
    only when a process starts. If the variable is already set, even to an empty text, or the system refuses to start
    the process again, this function does nothing.
    """
    if glibc() is None or LESS_FRAGMENTATION.keys() & os.environ.keys() or not sys.executable:
        return
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | LESS_FRAGMENTATION)


def glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc, else None."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def unwritten_mappings() -> list[tuple[int, int]]:
    """Return (start, end) of each file mapping of this process that has no written pages, not even private copies."""
    found: list[tuple[int, int]] = []
    try:
        lines = Path("/proc/self/smaps").read_text(errors="surrogateescape").splitlines()  # with names of files
    except OSError:
        return []
    is_file = False
    for line in lines:
        if header := HEADER.match(line):
            start, end, file = header.groups()
            if is_file := file != "0":
                found.append((int(start, 16), int(end, 16)))
        elif is_file and line.startswith(("Anonymous:", "Swap:")) and line.split()[1] != "0":
            found.pop()
            is_file = False
    return found
