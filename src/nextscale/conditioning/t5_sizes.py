"""Parameters and operations of a T5 encoder, from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextscale.conditioning.t5_files import CONFIG
from nextscale.errors import InputError
from nextscale.io.files import read_json


@dataclass(frozen=True)
class T5Sizes:
    """Sizes of a T5 encoder. The defaults are those of flan-t5-xl."""

    d_model: int = 2048
    d_kv: int = 64
    d_ff: int = 5120
    num_layers: int = 24
    num_heads: int = 32
    vocab_size: int = 32128
    relative_attention_num_buckets: int = 32
    feed_forward_proj: str = "gated-gelu"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> T5Sizes | None:
        """Return the sizes in the content of a ``config.json``; None if some are missing."""
        names = cls.__dataclass_fields__
        found = {name: config[name] for name in names if isinstance(config.get(name), type(names[name].default))}
        return cls(**found) if len(found) == len(names) else None

    @property
    def matrices(self) -> int:
        """Number of weights in the matrices of the blocks."""
        halves = 3 if self.feed_forward_proj.startswith("gated") else 2
        attention = 4 * self.d_model * self.num_heads * self.d_kv
        return self.num_layers * (attention + halves * self.d_model * self.d_ff)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        norms = (2 * self.num_layers + 1) * self.d_model
        bias = self.relative_attention_num_buckets * self.num_heads
        return self.matrices + self.vocab_size * self.d_model + norms + bias

    def gflop(self, tokens: int) -> float:
        """Return the GFLOP of encoding a prompt."""
        scores = 4 * self.num_layers * self.num_heads * self.d_kv * tokens**2
        return (2 * self.matrices * tokens + scores) / 1e9


PUBLISHED = {"google/flan-t5-xl": T5Sizes()}
"""Encoders of official models, whose sizes are known without a download."""


def find_sizes(source: str | Path) -> T5Sizes | None:
    """Return the sizes of an encoder by its folder or name, without a download; None if they are not known."""
    if str(source) in PUBLISHED:
        return PUBLISHED[str(source)]
    try:
        config = read_json(Path(source) / CONFIG) if str(source) else None
    except InputError:
        return None
    return T5Sizes.of(config) if isinstance(config, dict) else None
