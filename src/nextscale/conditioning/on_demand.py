"""A text encoder that is loaded when it is used first, together with its code: most pipelines need none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextscale.conditioning.feature_cache import TextEncoder
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.runtime.device import pick_device

if TYPE_CHECKING:
    from nextscale.conditioning.t5 import T5TextEncoder


class OnDemandEncoder:
    """A `T5TextEncoder` whose files are looked for when it is used first. Threads may share it.

    Args:
        source: folder or name of a T5; empty if the model has none, which is an error when a prompt comes.
        most: longest prompt that the model takes, in tokens.
        keep: see `T5TextEncoder`.
    """

    def __init__(self, source: str | Path, most: int, keep: bool = True):
        self.source, self.keep, self._most = source, keep, most
        self._loaded: Any = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder."""
        return self._encoder().fingerprint

    @property
    def content(self) -> str:
        """See `T5TextEncoder`."""
        return self._encoder().content

    @property
    def memory_to_load(self) -> int:
        """Memory in bytes that the next prompt will load; 0 if it is not known."""
        if self._loaded is not None:
            return self._loaded.memory_to_load
        from nextscale.conditioning.t5 import pick_dtype
        from nextscale.conditioning.t5_sizes import find_sizes

        sizes = find_sizes(self.source)
        return sizes.parameters * pick_dtype("auto", pick_device("auto")).itemsize if sizes else 0

    def check(self, prompts: Sequence[str]) -> None:
        """See `T5TextEncoder`."""
        self._encoder().check(prompts)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """See `T5TextEncoder`."""
        return self._encoder().encode(prompts)

    def notes(self, prompts: Sequence[str], negative: str = "") -> tuple[str, ...]:
        """See `T5TextEncoder`."""
        return self._encoder().notes(prompts, negative)

    def _encoder(self) -> T5TextEncoder:
        """Return the encoder.

        Raises:
            InputError: there is none, or it is missing or damaged.
        """
        if not str(self.source):
            raise InputError("this model has no text encoder: name one, such as google/flan-t5-xl")
        from nextscale.conditioning.t5 import MAX_TOKENS, T5TextEncoder

        with self._lock:
            if self._loaded is None:
                self._loaded = T5TextEncoder(self.source, keep=self.keep, max_tokens=min(MAX_TOKENS, self._most))
            return self._loaded


def as_encoder(encoder: TextEncoder | str | Path, most: int, keep: bool = True) -> TextEncoder:
    """Return a text encoder, or for the folder or name of a T5 an `OnDemandEncoder` with these arguments."""
    return OnDemandEncoder(encoder, most, keep) if isinstance(encoder, str | Path) else encoder


def encoder_for(model: Any, encoder: TextEncoder | str | Path, keep: bool, ready: Callable[[], Any]) -> TextEncoder:
    """Return the text encoder of a model: its own one, or the given one.

    Args:
        keep: see `as_encoder`.
        ready: returns (tokenizer, model), prepared for sampling.

    Raises:
        InputError: the model has one of its own, and another one is given.
    """
    if getattr(model, "words", None) is None:
        return as_encoder(encoder, len(model.unconditional_text), keep)
    if encoder != "":
        raise InputError("this model has a text encoder of its own, and takes no other one")
    from nextscale.conditioning.own_encoder import OwnEncoder  # most models have none

    return OwnEncoder(model.words, lambda: ready()[1].words)
