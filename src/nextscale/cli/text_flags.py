"""Flags of text-to-image models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from nextscale.conditioning.feature_cache import CachedEncoder, TextEncoder
from nextscale.conditioning.prompts import TextOptions
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.runtime.progress import say


@dataclass(frozen=True, kw_only=True)
class TextEncoderFlags:
    """The text encoder of text-to-image models."""

    text_encoder: str = ""
    """Folder or Hugging Face name of the T5 text encoder. Default: that of the model, google/flan-t5-xl for the
    official ones. Needs the extra "text"."""
    text_device: str = "auto"
    """Device of the text encoder: auto, cpu or cuda."""
    text_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the text encoder. auto: float16 on a GPU, bfloat16 on CPUs that are fast at it, else float32."""
    text_cache: Path | None = None
    """Folder that keeps the features of prompts, so that a prompt is encoded once. With all prompts in it, the text
    encoder is not loaded, but its files must exist."""
    unload_text: bool = False
    """Free the memory of the text encoder after encoding."""

    def use(self, pipeline: Pipeline, model: str, tell: Callable[[str], None] = say) -> None:
        """Set the text encoder of a pipeline, if any of these flags is given.

        Args:
            model: name of the model, for messages.
            tell: see `T5TextEncoder`.

        Raises:
            InputError: it is missing or damaged, a flag needs another one, or this is not a text-to-image model.
        """
        if any(getattr(self, name) != getattr(TextEncoderFlags, name) for name in TEXT_ENCODER_FLAGS):
            if pipeline.family.takes == "class":
                raise InputError(f"{model} takes class labels: a text encoder is for text-to-image models")
            if pipeline.words is not None:
                raise InputError(f"{model} has a text encoder of its own: expected no flags about another one")
            pipeline.set_text_encoder(self._load(pipeline, tell))

    def _load(self, pipeline: Pipeline, tell: Callable[[str], None]) -> TextEncoder:
        from nextscale.conditioning.t5 import FLAN_T5_XL, MAX_TOKENS, T5TextEncoder  # most calls need none

        encoder = T5TextEncoder(
            self.text_encoder or pipeline.text_encoder or FLAN_T5_XL,
            device=self.text_device,
            dtype=self.text_dtype,
            keep=not (self.unload_text or pipeline.offload),
            max_tokens=min(MAX_TOKENS, len(pipeline.model.unconditional_text)),
            tell=tell,
        )
        return CachedEncoder(encoder, self.text_cache) if self.text_cache else encoder


TEXT_ENCODER_FLAGS = tuple(f.name for f in fields(TextEncoderFlags))
"""Names of the flags about the text encoder. They do not change what is asked for."""


@dataclass(frozen=True, kw_only=True)
class TextFlags(TextEncoderFlags, TextOptions):
    """For text-to-image models."""

    def options(self) -> TextOptions:
        """Return the part of the flags that describes a request."""
        return TextOptions(**{f.name: getattr(self, f.name) for f in fields(TextOptions)})


PLAIN = TextEncoderFlags()
"""The text encoder of the model."""
