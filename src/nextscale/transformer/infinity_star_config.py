"""The configuration of InfinityStar, and the sizes of the official models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextscale.conditioning.words_config import WordsConfig, settle_words
from nextscale.errors import InputError, brief
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, LATER, check_fields
from nextscale.transformer.spacetime_rope import check_spacetime_rope

SIZES: dict[str, dict[str, int]] = {
    "8b": {"depth": 36, "width": 4096, "heads": 32, "kv_heads": 8, "chunks": 6},
}
"""Sizes of the official models."""


@dataclass(frozen=True)
class InfinityStarConfig:
    """Sizes of an InfinityStar. The defaults are those of the released 8B model."""

    depth: int = field(default=36, metadata={"most": 1024})
    width: int = field(default=4096, metadata={"most": LARGEST_WIDTH})
    heads: int = 32
    """Heads of queries."""
    kv_heads: int = 8
    """Heads of keys and values, each shared by heads / kv_heads heads of queries."""
    hidden: int = field(default=0, metadata={"most": LARGEST_WIDTH * 1024})
    """Width of the MLP. 0 means the official 256 * round(4 width / 256)."""
    bits: int = field(default=64, metadata={"most": LARGEST_WIDTH})
    """Bits of a detail token, and channels of the canvas."""
    semantic_bits: int = field(default=16, metadata={"most": LARGEST_WIDTH})
    """Bits of a semantic token."""
    text_width: int = field(default=2048, metadata={"most": LARGEST_WIDTH})
    """T, the width of the text features."""
    text_rows: int = field(default=512, metadata={"most": LARGEST_TABLE})
    """R, the largest number of tokens of a prompt, and the number of learned features for "no prompt"."""
    chunks: int = 1
    """Number of groups of blocks in the names of official checkpoints. It has no other effect."""
    words: WordsConfig | None = field(default=None, metadata=LATER)
    """A text encoder that is a part of the model; None if features of texts come from elsewhere, such as a T5. It
    determines ``text_width`` and ``text_rows``."""

    def __post_init__(self) -> None:
        settle_words(self)
        if self.hidden == 0:
            object.__setattr__(self, "hidden", 256 * max(1, round(4 * self.width / 256)))
        check_fields(self)
        if self.width % self.heads:
            raise InputError(f"width must be a multiple of heads, not {self.width} with {self.heads}")
        if self.heads % self.kv_heads:
            raise InputError(f"heads must be a multiple of kv_heads, not {self.heads} with {self.kv_heads}")
        if self.depth % self.chunks:
            raise InputError(f"depth must be a multiple of chunks, not {self.depth} with {self.chunks} chunks")
        check_spacetime_rope(self.head_dim)

    @property
    def head_dim(self) -> int:
        """d."""
        return self.width // self.heads

    @classmethod
    def named(cls, name: str, **fields: Any) -> InfinityStarConfig:
        """Return the configuration of an official model: 8b.

        Raises:
            InputError: there is no such model.
        """
        if name not in SIZES:
            raise InputError(f"unknown InfinityStar size {brief(name)}: expected one of {', '.join(SIZES)}")
        return cls(**{**SIZES[name], **fields})
