"""Official state dictionaries of any family to our models and back. The names of the tensors tell the family."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nextscale.errors import InputError
from nextscale.official import infinity, infinity_star, var
from nextscale.official.names import State
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_star import InfinityStar
from nextscale.transformer.var import VAR

CODEBOOK = "quantize.embedding.weight"
"""The tensor that only tokenizers of VAR have."""


def from_official(
    tokenizer_state: State, transformer_state: State, **options: Any
) -> tuple[ImageTokenizer | VideoTokenizer, VAR | Infinity | InfinityStar]:
    """Build our models from the weights of an official tokenizer and transformer, in float32.

    Args:
        tokenizer_state: the content of ``vae_ch160v4096z32.pth`` (VAR), ``infinity_vae_*.pth`` (Infinity) or
            ``infinitystar_videovae.pth`` (InfinityStar).
        transformer_state: the content of ``var_d*.pth``, or the tensors of an Infinity or InfinityStar transformer.
        options: see `nextscale.official.var.from_official` (``schedule``, ``quant_resi``, ``znorm``),
            `nextscale.official.infinity.from_official` (``schedule``, ``patchify``, ``rope``, ``text_rows``,
            ``as_stored``) and `nextscale.official.infinity_star.from_official` (``schedule``, ``text_rows``,
            ``as_stored``).

    Raises:
        InputError: the states do not belong to official models or to each other, or the family does not take an option.
    """
    if infinity.is_infinity(tokenizer_state) or infinity_star.is_infinity_star(tokenizer_state):
        raise InputError("the first state is a transformer's: expected the tokenizer's first, then the transformer's")
    module = infinity if infinity.is_infinity(transformer_state) else var
    module = infinity_star if infinity_star.is_infinity_star(transformer_state) else module
    if module is not infinity_star:
        if infinity_star.is_video_tokenizer(tokenizer_state):
            raise InputError("a video tokenizer belongs to an InfinityStar transformer, not to one that makes images")
        check_families(tokenizer_state, module is infinity)
    try:
        return module.from_official(tokenizer_state, transformer_state, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"{module.__name__.rpartition('.')[2]} models: {error}") from error


def check_families(tokenizer_state: State, is_infinity: bool) -> None:
    """Raise InputError if the tokenizer is of another family than the transformer."""
    if is_infinity and CODEBOOK in tokenizer_state:
        raise InputError("an Infinity transformer expects a tokenizer of bits, not one of VAR with a codebook")
    if not is_infinity and CODEBOOK not in tokenizer_state and infinity.is_tokenizer(tokenizer_state):
        raise InputError("a VAR transformer expects a tokenizer with a codebook, not one of Infinity with bits")


def tokenizer_from_official(state: State, schedule: ScaleSchedule) -> ImageTokenizer | VideoTokenizer:
    """Build our tokenizer from the weights of an official one of any family.

    Args:
        schedule: that of a tokenizer of VAR. The others take any; their defaults are the square one for 1024 pixels
            and, for videos, that of 480p and 5 seconds.
    """
    if infinity_star.is_video_tokenizer(state):
        return infinity_star.video_tokenizer_from_official(state)
    if CODEBOOK in state or infinity.is_infinity(state):
        return var.tokenizer_from_official(state, schedule)
    return infinity.tokenizer_from_official(state, patchify=None)


def to_official(tokenizer: Any, model: VAR | Infinity | InfinityStar) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the two official state dictionaries, including buffers. The official code loads them."""
    if isinstance(model, InfinityStar):
        return infinity_star.to_official(tokenizer, model)
    if isinstance(model, Infinity):
        return infinity.to_official(tokenizer, model)
    return var.to_official(tokenizer, model)
