"""Refuse sampling calls that need more memory than there is, before anything is loaded or computed for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nextscale.acceleration.precision import Precision
from nextscale.runtime.memory import available_memory
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig

AMPLE_WEIGHTS, AMPLE_PIXEL = 8, 2**16
"""Multiple of the stored weights, and bytes per pixel of all images, that are certainly enough."""


@dataclass
class MemoryGuard:
    """The memory of the calls of one pipeline."""

    tokenizer: TokenizerConfig
    model: Any
    """The transformer's configuration."""
    precision: Precision
    device: torch.device
    stored: int
    """Bytes of the stored weights of both models."""
    offload: bool = False
    tiles: bool = False
    """See `nextscale.pipeline.Pipeline`."""
    largest: int = 0
    """The largest call so far, in bytes that are certainly enough for it. The memory of a call that is not larger is
    not asked for again: the allocator may have kept it."""

    def check(
        self,
        schedule: ScaleSchedule | None,
        num_images: int,
        text_encoder: int,
        is_ready: bool,
        keeps_encoder: bool = True,
    ) -> None:
        """Check that a call has enough memory.

        Args:
            schedule: the scales of the images; None means the tokenizer's.
            text_encoder: bytes of a text encoder that is loaded for the call.
            is_ready: whether the models are in memory.
            keeps_encoder: whether the text encoder stays in memory.

        Raises:
            InputError: there is not enough memory.
        """
        schedule = schedule or self.tokenizer.schedule
        height, width = self.tokenizer.image_size_of(schedule)
        ample = AMPLE_WEIGHTS * self.stored + AMPLE_PIXEL * num_images * height * width + text_encoder
        if ample <= self.largest:
            return
        available = available_memory(self.device)
        if available is not None and available <= ample:
            from nextscale.analysis.memory import check_memory, estimate_memory  # most calls do not need them

            needed = estimate_memory(
                self.tokenizer,
                self.model,
                self.precision,
                self.device,
                schedule=schedule,
                num_images=num_images,
                text_encoder=text_encoder,
                keeps_encoder=keeps_encoder,
                offload=self.offload,
                tiles=self.tiles,
            )
            held = needed.weights + needed.decoder if is_ready else 0
            check_memory(needed, available + held, schedule, num_images)
        self.largest = ample
