"""CUDA graphs: record the kernels of a computation once, and launch them together.

A whole batch can be recorded, because all sizes of a sampling run are known in advance and the sampler never copies a
value to the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from nextscale.errors import InputError

Result = TypeVar("Result")

WARM_UPS = 3
"""Number of runs before recording, in which libraries choose their kernels and torch.compile compiles."""


def capture(run: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
    """Record the kernels that ``run`` launches on the current GPU.

    Args:
        generators: all random generators that ``run`` uses. Each replay continues from their current state.

    Returns:
        A function that replays the kernels. Its result is always in the same memory.

    Raises:
        InputError: the generators do not belong to a CUDA GPU.
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
