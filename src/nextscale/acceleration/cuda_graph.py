"""CUDA graphs: record the kernels of a computation once and launch them as one.

All sizes of a sampling run are known beforehand, and the sampler never reads a value back, so a whole batch can be
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from nextscale.errors import InputError

Result = TypeVar("Result")

WARM_UPS = 3
"""Runs before recording: libraries choose their kernels, and torch.compile compiles."""


def capture(run: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
    """Record the work that ``run`` does on the current GPU.

    Args:
        generators: the sources of all randomness. Each repetition continues from their current state.

    Returns:
        A function that repeats the work. Its result is always in the same memory.

    Raises:
        InputError: The generators do not belong to a CUDA GPU.
    """
    for generator in generators:
        if generator.device.type != "cuda":
            raise InputError(f"a CUDA graph needs a CUDA GPU, not {generator.device}")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = run()

    def repeat() -> Result:
        graph.replay()
        return result

    return repeat
