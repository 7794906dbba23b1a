"""Memory of a process: given back where it is not needed soon, kept while a command works, and not in splinters."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
"""What glibc arrives at by itself in a process with large tensors."""
WITHOUT_SPLINTERS = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""The environment of a process in which a hole in memory becomes one with its neighbours again."""
HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S{4} [0-9a-f]+ \S+ (\d+)")
"""Of a mapping in /proc/self/smaps: from, to, permissions, offset, device, number of the file (0 is none)."""


def page_out(tensors: Iterable[Tensor]) -> None:
    """Give memory back to the system: that of tensors which will not be needed soon, and what is free anyway.

    Tensors of a mapped file are read again when they are needed, and the system may keep the file in memory for whoever
    reads it next; others lose nothing. Only on Linux.
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
    """Give back what is free: each thread has a heap, which else keeps the most that it ever needed. Only glibc."""
    if library := glibc():
        library.malloc_trim(0)


@contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Within, what becomes free stays with this process, if it computes on the CPU. Only glibc.

    A step of training needs again what the step before gave back, such as all gradients, and a layer of a decoder the
    sizes of the last. Fresh pages would come one by one, filled with zeros. This is for processes of our own: it
    changes how all of a process gets memory.
    """
    library = glibc()
    if library is None or device.type != "cpu":
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


def start_again_without_splinters() -> None:
    """Start this process again from its beginning, in an environment `WITHOUT_SPLINTERS` of memory. Only glibc.

    A tensor is aligned, so that its place is cut from a hole a little larger. glibc puts the splinters beside it in a
    cache for small objects, and a splinter that is in this cache, or used, keeps a hole apart from its neighbours. In a
    training step gradients then do not fit where activations were, and d16 holds 0.3 GB more. glibc listens at the
    start of a process only. Whoever sets the variable themselves, even to nothing, keeps what they set.
    """
    if glibc() is not None and not WITHOUT_SPLINTERS.keys() & os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | WITHOUT_SPLINTERS)


def glibc() -> ctypes.CDLL | None:
    """The C library, if it is this one."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def unwritten_mappings() -> list[tuple[int, int]]:
    """(start, end) of this process's mappings of files in which it has written nothing, not even in a copy."""
    found: list[tuple[int, int]] = []
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
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
