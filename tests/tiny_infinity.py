"""Infinity's models in a size to build in a test, with weights that make every part matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from tiny import randomise
from torch import Tensor

import nextscale as ns
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

SCHEDULES = {
    "square": ns.ScaleSchedule(((1, 1), (2, 2), (3, 3)), 1.0),
    "wide": ns.ScaleSchedule(((1, 1), (2, 3), (3, 5)), 0.571),
    "no template": ns.ScaleSchedule(((1, 1), (3, 2))),
    "single": ns.ScaleSchedule(((1, 1),)),
}
DIM, TEXT_WIDTH, TEXT_ROWS = 6, 32, 12
LENGTHS = (3, 12, 1, 7)


@lru_cache
def make_tokenizer(patchify: bool = False, **options: Any) -> ns.ImageTokenizer:
    """A bitwise tokenizer with 4 pixels per side of a token. Shared between tests: do not change it."""
    sizes = {"channels": 32, "multipliers": (1, 2) if patchify else (1, 2, 2), "num_blocks": 1}
    config = ns.TokenizerConfig.infinity(
        **{"code_dim": DIM, "patchify": patchify, "schedule": SCHEDULES["square"], **sizes, **options}
    )
    return randomise(ns.ImageTokenizer(config))


@lru_cache
def make_infinity(patchify: bool = False, **options: Any) -> Infinity:
    """Shared between tests: do not change it."""
    fields: dict[str, Any] = {
        "schedule": SCHEDULES["square"],
        "depth": 4,
        "width": 48,
        "heads": 3,
        "bits": DIM * (4 if patchify else 1),
        "text_width": TEXT_WIDTH,
        "text_rows": TEXT_ROWS,
        "pool_heads": 2,
    }
    return randomise(Infinity(InfinityConfig(**(fields | options))))


class WordEncoder:
    """A text encoder with one token for each word. It records what it encodes."""

    fingerprint = "words"

    def __init__(self, width: int = TEXT_WIDTH):
        self.width, self.encoded = width, []

    def check(self, prompts: Sequence[str]) -> None:
        pass

    def encode(self, prompts: Sequence[str]) -> ns.TextFeatures:
        self.encoded += prompts
        words = [prompt.split()[:TEXT_ROWS] for prompt in prompts]
        return ns.TextFeatures.of([torch.stack([self.vector(word) for word in each]) for each in words])

    def vector(self, word: str) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        return torch.randn(self.width, generator=torch.Generator().manual_seed(seed))


def make_text(*lengths: int, seed: int = 0, width: int = TEXT_WIDTH) -> ns.TextFeatures:
    """Random features of prompts of these lengths. A prompt depends on its position and length only."""
    generators = [torch.Generator().manual_seed(100 * seed + i) for i in range(len(lengths))]
    return ns.TextFeatures.of([torch.randn(n, width, generator=g) for n, g in zip(lengths, generators, strict=True)])


def random_bits(schedule: ns.ScaleSchedule, batch: int = 2, bits: int = DIM, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, (batch, n, bits), generator=generator).bool() for n in schedule.tokens_per_scale]
