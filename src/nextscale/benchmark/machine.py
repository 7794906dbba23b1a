"""The peak speed of the machine, in the precision and at the sizes of a model."""

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
    """Peak speed in GFLOP/s."""

    product: float
    """The product of all tokens of an image, with guidance, and the first matrix of an MLP."""
    convolution: float
    """A 3x3 convolution at the decoder's full size and width."""


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
    """Time the product (rows, width) x (width, 4 width) and a 3x3 convolution of ``channels`` over (H, W)."""
    x, weight = (torch.randn(n, width, device=device, dtype=dtype) for n in (rows, 4 * width))
    grid = torch.randn(1, channels, *size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    with kept(device):  # as in the measurements that it is compared with
        product = median_seconds(lambda: F.linear(x, weight), device, clock)
        convolution = median_seconds(lambda: F.conv2d(grid, kernel, padding=1), device, clock)
    return Peak(
        product=2e-9 * rows * width * 4 * width / product,
        convolution=2e-9 * 9 * channels**2 * size[0] * size[1] / convolution,
    )


def median_seconds(
    run: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median seconds of a run, after one to warm up. On a GPU ten runs are timed at once."""
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
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process so far, in bytes, on the GPU or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
