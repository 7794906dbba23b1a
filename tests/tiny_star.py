"""A small random InfinityStar and its video tokenizer."""

from __future__ import annotations

import torch

import nextscale as ns
from nextscale.scales.spacetime import SpacetimeSchedule

CHANNELS = (8, 16, 32, 32, 32)


def make_schedule(latent_frames: int = 4, **changes) -> SpacetimeSchedule:
    """Clips of 1, 2 and 1 latent frames of 32 x 48 pixels."""
    fields = {"image_repeats": (2, 1, 1), "clip_repeats": (1, 2, 1), "detail_area": 2, "clip_frames": 2} | changes
    return SpacetimeSchedule(((1, 1), (1, 2), (2, 3)), latent_frames, **fields)


def make_tokenizer(schedule: SpacetimeSchedule | None = None) -> ns.VideoTokenizer:
    torch.manual_seed(0)
    config = ns.VideoTokenizerConfig(CHANNELS, 1, 16, schedule=schedule or make_schedule())
    return ns.VideoTokenizer(config).eval()


def make_model() -> ns.InfinityStar:
    torch.manual_seed(1)
    config = ns.InfinityStarConfig(depth=2, width=32, heads=4, kv_heads=2, hidden=64, text_width=16, text_rows=20)
    model = ns.InfinityStar(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_text(*lengths: int, seed: int = 0) -> ns.TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    return ns.TextFeatures(torch.randn(sum(lengths), 16, generator=generator), lengths)
