"""The memory that a device has left."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
"""The control group of this process in a container, with its own limit."""


def available_memory(device: torch.device) -> int | None:
    """Return the number of bytes that can still be allocated on a device; None where the system does not say.

    For a CPU this includes the memory of cached files, for a GPU that which PyTorch holds in reserve.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    found = [value for value in (system_memory(), container_memory()) if value is not None]
    return min(found, default=None)


def system_memory() -> int | None:
    """Return the available memory of the machine in bytes."""
    try:
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def container_memory() -> int | None:
    """Return the memory that a control group of version 2 leaves, in bytes; None if there is no limit."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        fields = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(fields.get("inactive_file", 0)))  # cached files can be dropped
    except (OSError, ValueError):  # "max" is no limit
        return None
