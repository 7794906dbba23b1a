"""Smaller batches where memory runs out."""

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
    """Results of a batch, or of its halves, quarters, ... where memory does not suffice for more.

    Args:
        attempt: processes a batch.
        size: number of items in the batch; one item is not divided.
        halve: divides a batch into its first ``size // 2`` items and the rest.

    Raises:
        Exception: whatever ``attempt`` raises that is not an out-of-memory error, or one for a single item.
    """
    try:
        return [attempt(batch)]
    except Exception as error:
        if not is_out_of_memory(error) or size <= 1:
            raise
    # Outside of the handler, whose traceback would keep the tensors of the failed attempt alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    first, second = halve(batch)
    left = size // 2
    return in_halves(attempt, first, left, halve) + in_halves(attempt, second, size - left, halve)
