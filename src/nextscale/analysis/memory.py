"""An estimate of the memory that sampling needs, from the configurations alone.

It is the only estimate: ``nextscale info`` prints it, and `nextscale.pipeline.Pipeline` refuses calls with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from nextscale.acceleration.decoding import FULL_SIZE_TENSORS, images_at_once
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.strips import WHOLE, decoding_bytes
from nextscale.acceleration.winograd import MOST_KEPT, has_enough_tiles, is_worth_it
from nextscale.analysis.flops import build_transformer
from nextscale.errors import NotEnoughMemory
from nextscale.scales.aspect import BUDGETS
from nextscale.scales.image_shape import budget_of, follows_template
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.autoencoder import Upsample
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.cache import cache_length, plan_cache

GB = 1e9
FLOAT32 = 4
WIDTHS_PER_TOKEN = 12
"""Float32 activations of a block for each token of the current scale, in units of the width."""
SMALL = 2**28
"""Bytes for everything that does not grow with the image, such as attention scores and strips of convolutions."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that sampling needs on its device."""

    weights: int
    """The transformer, in the precision of sampling."""
    decoder: int
    """The decoder's weights, with what is computed from them once."""
    cache: int
    """Keys and values of earlier scales."""
    activations: int
    """The transformer's largest activations."""
    decoding: int
    """The decoder's largest activations."""
    text_encoder: int = 0
    """Weights of the text encoder."""
    keeps_encoder: bool = True
    """Whether the text encoder stays in memory after encoding."""
    offload: bool = False
    """Whether each model is in memory only while it is used."""

    @property
    def models(self) -> int:
        """Weights of all models, which stay in memory between calls."""
        if self.offload:
            return 0
        return self.weights + self.decoder + (self.text_encoder if self.keeps_encoder else 0)

    @property
    def smallest(self) -> int:
        """The peak with ``offload``."""
        return replace(self, offload=True, keeps_encoder=False).peak

    @property
    def peak(self) -> int:
        """The most memory at a time. The cache is freed before images are decoded."""
        sampling, decoding = self.cache + self.activations, self.decoding
        if self.offload:
            sampling, decoding = sampling + self.weights, decoding + self.decoder
        return max(self.text_encoder, self.models + max(sampling, decoding))


def estimate_memory(
    tokenizer: Any,
    model: Any,
    precision: Precision,
    device: torch.device,
    *,
    schedule: Any = None,
    num_images: int = 1,
    guided: bool = True,
    text_encoder: int = 0,
    keeps_encoder: bool = True,
    offload: bool = False,
    tiles: bool = False,
) -> MemoryEstimate:
    """Estimate the memory of sampling a batch.

    Args:
        tokenizer, model: configurations of the tokenizer and the transformer of one family.
        schedule: the scales of the images; None means those of the tokenizer.
        guided: whether there are two sequences per image.
        text_encoder: bytes of the text encoder's weights.
        keeps_encoder: whether the text encoder stays in memory after encoding.
        offload, tiles: see `nextscale.pipeline.Pipeline`.
    """
    if not isinstance(tokenizer, TokenizerConfig):
        from nextscale.analysis.video_memory import estimate_video_memory  # most models generate images

        sequences = num_images * (2 if guided else 1)
        of_call = {"schedule": schedule, "num_videos": num_images, "sequences": sequences, "offload": offload}
        estimate = estimate_video_memory(tokenizer, model, precision, device, **of_call)
        return replace(estimate, text_encoder=text_encoder, keeps_encoder=keeps_encoder and not offload)
    schedule = schedule or tokenizer.schedule
    size, on_cpu = precision.dtype.itemsize, device.type == "cpu"
    sequences = num_images * (2 if guided else 1)
    height, width = tokenizer.image_size_of(schedule)
    stored = cache_length(plan_cache(schedule.visits, schedule.tokens_per_scale))
    per_token = WIDTHS_PER_TOKEN * max(schedule.tokens_per_scale) * FLOAT32 + 2 * schedule.num_tokens * size
    at_once = max(torch.get_num_threads() if on_cpu else 1, images_at_once(tokenizer, device, height * width, size))
    activation = tokenizer.full_size_numbers(schedule) * size
    in_strips = tiles and activation > WHOLE
    full_size = decoding_bytes(activation) if in_strips else FULL_SIZE_TENSORS * activation
    return MemoryEstimate(
        weights=transformer_bytes(model, precision),
        decoder=decoder_bytes(tokenizer, (height, width), size, on_cpu),
        cache=2 * model.depth * sequences * model.width * stored * size,
        activations=sequences * model.width * per_token + SMALL,
        decoding=min(num_images, at_once) * full_size + 3 * num_images * height * width * 3 * FLOAT32 + SMALL,
        text_encoder=text_encoder,
        keeps_encoder=keeps_encoder and not offload,
        offload=offload,
    )


def check_memory(needed: MemoryEstimate, available: int, schedule: Any, num_images: int) -> None:
    """Check that sampling has enough memory.

    Args:
        available: bytes, those of what is needed and already in memory included.
        schedule, num_images: the scales and the number of the images, for the message.

    Raises:
        NotEnoughMemory: more is needed.
    """
    if needed.peak <= available:
        return
    of_seconds, images = "", "images" if schedule.frames == 1 else "videos"
    if isinstance(schedule, ScaleSchedule):
        budget = budget_of(schedule) if follows_template(schedule) else ""
    else:
        budget = schedule.budget if schedule.follows_template else ""
        of_seconds = f" and {schedule.seconds:g} s" if schedule.frames > 1 else ""
    what = f"{budget} pixels{of_seconds}" if budget else f"{images} of {schedule.num_tokens:,} tokens"
    hints = ["a smaller --budget"] if budget not in ("", *list(BUDGETS)[:1]) else []
    hints += ["fewer --seconds"] if len(schedule.clips) > 2 else []
    hints += [f"fewer {images}"] if num_images > 1 else []
    hints += ["--offload"] if not needed.offload and needed.smallest <= available else []
    raise NotEnoughMemory(
        f"{what} with {num_images} {images if num_images > 1 else images[:-1]} need about {needed.peak / GB:.1f} GB, "
        f"but {available / GB:.1f} GB are available: use {' or '.join(hints) or 'a smaller model'}"
    )


@lru_cache(maxsize=16)
def transformer_bytes(model: Any, precision: Precision) -> int:
    """Return the bytes of a transformer's weights that are ready for sampling: see `nextscale.acceleration.ready`.

    Args:
        model: its configuration.
    """
    with torch.device("meta"):
        weights = build_transformer(model).named_parameters()
    total = 0
    for name, weight in weights:
        is_converted = weight.ndim == 2 and name.startswith(("blocks.", "adaln."))
        total += weight.numel() * (precision.dtype.itemsize if is_converted else FLOAT32)
        if precision.int8 and weight.ndim == 2 and name.startswith("blocks."):
            total += weight.numel()
    return total


@lru_cache(maxsize=64)
def decoder_bytes(tokenizer: TokenizerConfig, image_size: tuple[int, int], size: int, on_cpu: bool) -> int:
    """Return the bytes of a decoder's weights, including kernels that are computed from them once.

    Args:
        size: bytes per number.
    """
    with torch.device("meta"):
        decoder = ImageTokenizer(tokenizer).decoder
    total = size * sum(weight.numel() for weight in decoder.parameters())
    coarsest = len(tokenizer.multipliers) - 1
    for name, module in decoder.named_modules():
        parts = name.split(".")
        level = int(parts[1]) if parts[0] == "levels" and len(parts) > 1 else 0 if parts[0] == "conv_out" else coarsest
        grid = image_size[0] >> level, image_size[1] >> level
        if isinstance(module, Upsample):
            total += module.conv.weight.numel() * 16 // 9 * size  # four 2x2 kernels
        elif isinstance(module, nn.Conv2d) and on_cpu and is_worth_it(module) and has_enough_tiles(*grid):
            kernel = module.weight.numel() * 4 * size
            total += 0 if name.endswith("resample.conv") or kernel > MOST_KEPT else kernel
    return total
