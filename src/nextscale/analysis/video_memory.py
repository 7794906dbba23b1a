"""An estimate of the memory that sampling videos needs; see `nextscale.analysis.memory`."""

from __future__ import annotations

from math import prod

import torch

from nextscale.acceleration.precision import Precision
from nextscale.analysis.memory import FLOAT32, SMALL, MemoryEstimate, transformer_bytes
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from nextscale.transformer.cache import cache_length, plan_cache
from nextscale.transformer.infinity_star_config import InfinityStarConfig

WIDTHS_PER_TOKEN = {4: 24, 2: 16}
"""Float32 activations of a block for each token of the current visit, in units of the width, by the bytes of a number
in the products. Measured for an MLP of 4 widths."""
FULL_SIZE_TENSORS = 12
"""Number of the largest activations that decoding holds at the same time, measured."""


def estimate_video_memory(
    tokenizer: VideoTokenizerConfig,
    model: InfinityStarConfig,
    precision: Precision,
    device: torch.device,
    *,
    schedule: SpacetimeSchedule | None = None,
    num_videos: int = 1,
    sequences: int = 2,
    offload: bool = False,
) -> MemoryEstimate:
    """Estimate the memory of sampling videos. That of decoding does not depend on their duration.

    Args:
        schedule: the visits of the videos; None means those of the tokenizer.
        sequences: number of sequences of the transformer, two for each video with guidance.
    """
    schedule = schedule or tokenizer.schedule
    size = precision.dtype.itemsize
    of_decoder = FLOAT32 if device.type == "cpu" else size
    stored = cache_length(plan_cache(schedule.visits, schedule.tokens_per_visit))
    per_token = sequences * FLOAT32 * WIDTHS_PER_TOKEN[size] * model.width
    numbers = tokenizer.full_size_numbers(schedule)
    latents = num_videos * tokenizer.code_dim * schedule.latent_frames * prod(schedule.final_size)
    pixels = num_videos * schedule.frames * 3 * prod(schedule.image_size)
    cache = 2 * model.depth * sequences * model.kv_heads * model.head_dim * stored * size
    beside = 0 if offload else cache  # a clip is decoded before the next one is sampled
    with torch.device("meta"):
        decoder = sum(weight.numel() for weight in VideoTokenizer(tokenizer).decoder.parameters())
    return MemoryEstimate(
        weights=transformer_bytes(model, precision),
        decoder=decoder * (FLOAT32 + (of_decoder if of_decoder < FLOAT32 else 0)),  # autocast makes a copy
        cache=cache,
        activations=per_token * (max(schedule.tokens_per_visit) + stored // 8) + 4 * FLOAT32 * latents + SMALL,
        decoding=beside + num_videos * FULL_SIZE_TENSORS * numbers * of_decoder + pixels + SMALL,
        offload=offload,
    )
