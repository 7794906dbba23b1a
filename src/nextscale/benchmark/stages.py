"""Measure how much of the sampling time each stage takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nextscale.benchmark.machine import wait
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

STAGES: tuple[str, ...] = ("transformer", "canvas", "decoder")
"""The rest of the time is guidance, filters and choosing tokens."""


@contextmanager
def timed_stages(tokenizer: ImageTokenizer, model: VAR, device: torch.device) -> Iterator[dict[str, float]]:
    """Yield the seconds of each stage in the block. Waiting for a GPU after each stage slows it down a little."""
    seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    places: list[tuple[Any, str, str]] = [
        (model, "condition", "transformer"),
        (model, "forward_scale", "transformer"),
        (model, "logits", "transformer"),
        (tokenizer.pyramid, "look", "canvas"),
        (tokenizer.pyramid, "gain", "canvas"),
        (tokenizer, "decode_canvas", "decoder"),
    ]

    def timed(run: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            wait(device)
            start = time.perf_counter()
            result = run(*arguments)
            wait(device)
            seconds[stage] += time.perf_counter() - start
            return result

        return call

    for module, name, stage in places:
        setattr(module, name, timed(getattr(module, name), stage))
    try:
        yield seconds
    finally:
        for module, name, _ in places:
            delattr(module, name)  # uncovers the method of the class
