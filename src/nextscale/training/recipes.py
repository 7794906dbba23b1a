"""How to train: every number of a run in one frozen dataclass, and named recipes as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nextscale.errors import InputError
from nextscale.scales import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.schedules import SCHEDULES, knee_of

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """What training a tokenizer and training a transformer have in common."""

    steps: int
    batch_size: int
    learning_rate: float
    """Peak. Officially 1e-4 * batch / 256 for the transformers d16 and d20, 8e-5 * batch / 256 for the larger ones."""
    seed: int = 0
    precision: Precision = "bfloat16"
    """Of matrix products and convolutions (autocast); weights, losses and quantization are float32."""
    schedule: str = "lin0"
    warmup: float = 0.02
    """Share of the steps."""
    warmup_start: float = 0.005
    final_ratio: float = 0.1
    """Last learning rate, as a share of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    weight_decay_end: float = 0.05
    clip: float = 2.0
    """Largest global norm of the gradient."""
    ema_decay: float = 0.999
    flip: bool = True
    """Mirror half of the pictures."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "clip", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a positive number, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must lie between 0 and 2^63 - 1, not {self.seed}")
        if self.schedule not in SCHEDULES:
            knee_of(self.schedule)


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(Recipe):
    """Train an `ImageTokenizer`: reconstruction plus the quantizer's loss."""

    model: TokenizerConfig
    l1: float = 0.2
    l2: float = 1.0
    commitment: float = 0.25
    """beta of the quantizer's loss."""
    restart_every: int = 100
    """Steps after which codes that were not used are set to features; 0 only at the first step."""


@dataclass(frozen=True, kw_only=True)
class VARRecipe(Recipe):
    """Train a `VAR` on the tokens of a trained tokenizer, which gives schedule and codebook."""

    depth: int
    width: int
    heads: int
    shared_adaln: bool = False
    label_drop: float = 0.1
    """Probability of training on "no class", for guidance."""
    drop_path: float = 0.0
    """Rate at the last block, rising linearly from 0; officially 0.1 * depth / 24."""
    init_gamma: float = 1e-3
    """Initial size of AdaLN's gamma rows (``alng``)."""


TOKENIZERS = {
    "starter": TokenizerRecipe(
        steps=3500,
        batch_size=32,
        learning_rate=1e-3,
        weight_decay=0.0,
        weight_decay_end=0.0,
        schedule="cos",
        final_ratio=0.05,
        clip=1.0,
        ema_decay=0.998,
        model=TokenizerConfig(
            schedule=ScaleSchedule.square((1, 2, 3, 4, 6, 8)),
            channels=32,
            multipliers=(1, 2, 2, 4),
            num_blocks=1,
            code_dim=16,
            codebook_size=1024,
        ),
    ),
}

TRANSFORMERS = {
    "starter": VARRecipe(
        steps=4500,
        batch_size=32,
        learning_rate=1e-3,
        ema_decay=0.998,
        depth=6,
        width=256,
        heads=8,
        drop_path=0.1,
        init_gamma=1e-1,
    ),
}


def recipe_named(recipes: dict, name: str):
    """The recipe of that name.

    Raises:
        InputError: there is none.
    """
    if name not in recipes:
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(recipes)}")
    return recipes[name]
