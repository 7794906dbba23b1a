"""Halve a batch when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from nextscale.errors import is_out_of_memory

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def in_halves(
    attempt: Callable[[Batch], Result], batch: Batch, size: int, halve: Callable[[Batch], tuple[Batch, Batch]]
) -> list[Result]:
    """Process a batch, or its halves, quarters, ... when memory runs out. Return the results in order.

    Args:
        attempt: function that processes a batch.
        size: number of items in the batch. A single item is not divided.
        halve: function that divides a batch into its first ``size // 2`` items and the others.

    Raises:
        Exception: ``attempt`` raised it, unless memory ran out and the batch has more than one item.
    """
    try:
        return [attempt(batch)]
    except Exception as error:
        if not is_out_of_memory(error) or size <= 1:
            raise
    # After the handler: its traceback would keep the tensors of the failed attempt alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, second = halve(batch)
    left = size // 2
    return in_halves(attempt, first, left, halve) + in_halves(attempt, second, size - left, halve)
