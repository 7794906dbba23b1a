"""What the machine reaches at best, in the precision and at the sizes of a model."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nextscale.runtime.allocator import kept

ROUNDS = 5


@dataclass(frozen=True)
class Peak:
    """GFLOP/s."""

    product: float
    """All tokens of an image with guidance times the first matrix of an MLP."""
    convolution: float
    """3x3, at the decoder's full size and width."""


@torch.no_grad()
def measure_peak(
    rows: int,
    width: int,
    channels: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Peak:
    """(rows, width) x (width, 4 width), and ``channels`` to ``channels`` over (H, W)."""
    x, weight = (torch.randn(n, width, device=device, dtype=dtype) for n in (rows, 4 * width))
    grid = torch.randn(1, channels, *size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    with kept(device):  # what is measured beside it has it, too
        product = median_seconds(lambda: F.linear(x, weight), device, clock)
        convolution = median_seconds(lambda: F.conv2d(grid, kernel, padding=1), device, clock)
    return Peak(
        product=2e-9 * rows * width * 4 * width / product,
        convolution=2e-9 * 9 * channels**2 * size[0] * size[1] / convolution,
    )


def median_seconds(
    run: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Of one run, after one to warm up; on a GPU of ten at once."""
    times = 10 if device.type == "cuda" else 1
    run()
    rounds = []
    for _ in range(ROUNDS):
        wait(device)
        start = clock()
        for _ in range(times):
            run()
        wait(device)
        rounds.append((clock() - start) / times)
    return statistics.median(rounds)


def wait(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process has held so far, on the GPU, or in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
