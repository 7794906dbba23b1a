"""The configuration of Infinity, and the sizes of the official models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nextscale.conditioning.words_config import WordsConfig, settle_words
from nextscale.errors import InputError, brief
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, LATER, as_config, check_fields
from nextscale.scales.schedule import MOST_SCALES, ScaleSchedule
from nextscale.transformer.cross_attention import pool_heads
from nextscale.transformer.rope import check_rope

SIZES: dict[str, dict[str, int]] = {
    "layer12": {"depth": 12, "width": 768, "heads": 8, "chunks": 4},
    "layer16": {"depth": 16, "width": 1152, "heads": 12, "chunks": 4},
    "layer24": {"depth": 24, "width": 1536, "heads": 16, "chunks": 4},
    "layer32": {"depth": 32, "width": 2080, "heads": 20, "chunks": 4},
    "layer40": {"depth": 40, "width": 2688, "heads": 24, "chunks": 4},
    "layer48": {"depth": 48, "width": 3360, "heads": 28, "chunks": 4},
    "2b": {"depth": 32, "width": 2048, "heads": 16, "chunks": 8},
    "8b": {"depth": 40, "width": 3584, "heads": 28, "chunks": 8, "bits": 56},
    "20b": {"depth": 58, "width": 4608, "heads": 36, "chunks": 1},
}
"""Sizes of the official models."""


@dataclass(frozen=True)
class InfinityConfig:
    """Sizes of an Infinity. The defaults are those of the 2B model."""

    schedule: ScaleSchedule = field(default_factory=ScaleSchedule.infinity)
    """The default scales of sampling and training. The weights do not depend on them."""
    depth: int = field(default=32, metadata={"most": 1024})
    width: int = field(default=2048, metadata={"most": LARGEST_WIDTH})
    heads: int = 16
    hidden: int = field(default=0, metadata={"most": LARGEST_WIDTH * 1024})
    """Width of the MLP. 0 means the official 256 * round(4 width / 256), rounded half to even, and at least 256."""
    bits: int = field(default=32, metadata={"most": LARGEST_WIDTH})
    """Bits per token, as in the tokenizer: its channels, or four times as many with patchify."""
    text_width: int = field(default=2048, metadata={"most": LARGEST_WIDTH})
    """T, the width of the text features."""
    text_rows: int = field(default=512, metadata={"most": LARGEST_TABLE})
    """R, the largest number of tokens of a prompt, and the number of learned features for "no prompt"."""
    pool_heads: int = 0
    """Heads of the attention that pools a text. 0 means the official number, T / 128, or T / 64 above width 4096."""
    levels: int = field(default=15, metadata={"most": MOST_SCALES})
    """Largest number of scales."""
    rope: int = field(default=2, metadata={"least": 0})
    """Mode of the rotary positions, see `nextscale.transformer.rope.rotations`."""
    chunks: int = 1
    """Number of groups of blocks in the names of official checkpoints. It has no other effect."""
    words: WordsConfig | None = field(default=None, metadata=LATER)
    """A text encoder that is a part of the model; None if features of texts come from elsewhere, such as a T5. It
    determines ``text_width`` and ``text_rows``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_config(ScaleSchedule, self.schedule))
        settle_words(self)
        if self.hidden == 0:
            object.__setattr__(self, "hidden", 256 * max(1, round(4 * self.width / 256)))
        if self.pool_heads == 0:
            object.__setattr__(self, "pool_heads", pool_heads(self.text_width, self.width))
        check_fields(self)
        for name in ("heads", "pool_heads"):
            if self.width % getattr(self, name):
                raise InputError(f"width must be a multiple of {name}, not {self.width} with {getattr(self, name)}")
        check_rope(self.width // self.heads, self.rope)
        if self.depth % self.chunks:
            raise InputError(f"depth must be a multiple of chunks, not {self.depth} with {self.chunks} chunks")
        self.check_schedule(self.schedule)

    def check_schedule(self, schedule: ScaleSchedule) -> None:
        """Check that the model can predict the scales of a schedule.

        Raises:
            InputError: the first scale has several tokens, or there are more scales than level embeddings.
        """
        if schedule.tokens_per_scale[0] != 1:
            raise InputError(f"the first scale of Infinity is 1x1, not {'x'.join(map(str, schedule.sizes[0]))}")
        if schedule.num_scales > self.levels:
            raise InputError(f"this Infinity takes at most {self.levels} scales, not {schedule.num_scales}")

    @classmethod
    def named(cls, name: str, **fields: Any) -> InfinityConfig:
        """Return the configuration of an official model: layer12, layer16, ... layer48, 2b, 8b or 20b.

        Raises:
            InputError: there is no such model.
        """
        if name not in SIZES:
            raise InputError(f"unknown Infinity size {brief(name)}: expected one of {', '.join(SIZES)}")
        return cls(**{**SIZES[name], **fields})
