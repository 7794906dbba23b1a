"""Flags of models of text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nextscale.conditioning.feature_cache import CachedEncoder, TextEncoder
from nextscale.conditioning.t5 import FLAN_T5_XL, T5TextEncoder

TEXT_ENCODER_FLAGS = ("text_encoder", "text_device", "text_dtype", "text_cache", "unload_text")
"""Flags about the text encoder. They do not change what is asked for."""


@dataclass(frozen=True, kw_only=True)
class TextFlags:
    """For models of text."""

    negative_prompt: str = ""
    """What the images should not show. It replaces "no prompt" in guidance."""
    positive_phrase: bool = False
    """Add a phrase about skin and faces to prompts that mention people."""
    text_encoder: str = ""
    """Folder or Hugging Face name of the T5 text encoder. Default: that of the model, google/flan-t5-xl for the
    official ones. Needs the extra "text"."""
    text_device: str = "auto"
    """Device of the text encoder: auto, cpu or cuda."""
    text_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the text encoder. auto: float16 on a GPU, bfloat16 on CPUs that are fast at it, else float32."""
    text_cache: Path | None = None
    """Folder that keeps the features of prompts, so that a prompt is encoded once. With all prompts in it, the text
    encoder's weights are not read."""
    unload_text: bool = False
    """Free the memory of the text encoder after encoding."""

    @property
    def is_given(self) -> bool:
        """Whether a flag about the text encoder is given."""
        return any(getattr(self, name) != getattr(TextFlags, name) for name in TEXT_ENCODER_FLAGS)

    def load(self, own: str) -> TextEncoder:
        """Return the text encoder of the flags.

        Args:
            own: folder or name of the model's own.

        Raises:
            InputError: it is missing or damaged, or a flag needs another one.
        """
        source = self.text_encoder or own or FLAN_T5_XL
        keep = not self.unload_text
        encoder = T5TextEncoder(source, device=self.text_device, dtype=self.text_dtype, keep=keep)
        return CachedEncoder(encoder, self.text_cache) if self.text_cache else encoder
