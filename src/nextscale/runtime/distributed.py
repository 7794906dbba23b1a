"""Communication between the processes that torchrun starts. With one process, these functions do nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from nextscale.errors import InputError


def rank() -> int:
    """Return the rank of this process. Process 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this is process 0."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place, and return it."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_mean(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes, in place, and return it."""
    return all_sum(tensor).div_(world_size()) if world_size() > 1 else tensor


def gather(tensor: Tensor) -> Tensor:
    """Concatenate the tensors (n, ...) of all W processes: (W n, ...)."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_texts(texts: Sequence[str]) -> list[str]:
    """Concatenate the texts of all processes."""
    parts: list[Sequence[str]] = [texts] * world_size()
    if world_size() > 1:
        dist.all_gather_object(parts, list(texts))
    return [text for part in parts for text in part]


def side_group() -> dist.ProcessGroup | None:
    """Return a second process group for a background thread, or None with one process."""
    group = dist.new_group(backend="gloo") if world_size() > 1 else None
    return group if isinstance(group, dist.ProcessGroup) else None


def any_process(condition: bool, device: torch.device) -> bool:
    """Return whether the condition holds in any process."""
    return bool(all_sum(torch.tensor(float(condition), device=device))) if world_size() > 1 else condition


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the process group if torchrun started this process. Yield the device of this process.

    Raises:
        InputError: there are more processes on this machine than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
