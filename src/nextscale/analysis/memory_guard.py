"""Refuse sampling calls that need more memory than there is, before anything is loaded or computed for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nextscale.acceleration.precision import Precision
from nextscale.analysis.memory import check_memory, estimate_memory
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig


@dataclass
class MemoryGuard:
    """The memory of the calls of one pipeline."""

    tokenizer: TokenizerConfig
    model: Any
    """The transformer's configuration."""
    precision: Precision
    device: torch.device
    most: int = 0
    """Bytes of the largest call so far. They are not asked for again: the allocator may have kept them."""

    def check(self, schedule: ScaleSchedule | None, num_images: int, text_encoder: int, is_ready: bool) -> None:
        """Check that a call has enough memory.

        Args:
            schedule: the scales of the images; None means the tokenizer's.
            text_encoder: bytes of a text encoder that is loaded for the call.
            is_ready: whether the models are in memory.

        Raises:
            InputError: there is not enough memory.
        """
        schedule = schedule or self.tokenizer.schedule
        of_call = {"schedule": schedule, "num_images": num_images, "text_encoder": text_encoder}
        needed = estimate_memory(self.tokenizer, self.model, self.precision, self.device, **of_call)
        if needed.peak > self.most:
            held = needed.weights + needed.decoder if is_ready else 0
            check_memory(needed, self.device, schedule, num_images, held)
            self.most = needed.peak
