"""Official InfinityStar checkpoints to our models and back, with every tensor that is used unchanged.

The tables pair the names. The configuration follows from the shapes of the tensors.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.module_folder import build_on_meta, fill, most_parameters
from nextscale.official.infinity import MASKS, check_complete, chunked, with_rows, without_chunks
from nextscale.official.names import Names, State, largest_number, rename, shape_of, swapped
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_autoencoder import DOWN_FRAMES
from nextscale.tokenizer.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from nextscale.transformer.infinity_star import InfinityStar
from nextscale.transformer.infinity_star_config import InfinityStarConfig

TOKENIZER = "the official video tokenizer state"
TRANSFORMER = "the official transformer state"
SCALE = "scale_learnable_parameters"

# (official, ours); see `nextscale.official.names`.
_ENCODER_BLOCK = (
    *((f"{norm}.gamma", f"{norm}.gamma") for norm in ("norm1", "norm2")),
    *((f"{conv}.conv.*", f"{conv}.*") for conv in ("conv1", "conv2")),
)
_DECODER_NORM = (("norm_layer.gamma", "norm.gamma"), ("conv_y.conv.*", "gain.*"), ("conv_b.conv.*", "bias.*"))
_DECODER_BLOCK = (
    *((f"{norm}.{a}", f"{norm}.{b}") for norm in ("norm1", "norm2") for a, b in _DECODER_NORM),
    *((f"{conv}.conv.*", f"{conv}.*") for conv in ("conv1", "conv2")),
)
_RESAMPLER = (("norm.gamma", "norm.gamma"), ("conv.conv.*", "conv.*"))
_ATTENTION = (
    *((f"{name[0]}_proj", name) for name in ("query", "key", "value")),
    ("o_proj", "proj"),
    *((f"{name[0]}_norm", f"{name}_norm") for name in ("query", "key")),
)
_PARTS = (
    ("encoder.conv_in", "encoder.conv_in", (("conv.*", "*"),)),
    ("encoder.down_blocks.{n}.resnets.{n}", "encoder.stages.{n}.{n}", _ENCODER_BLOCK),
    ("encoder.down_blocks.{n}.downsamplers.0.conv", "encoder.downs.{n}", _RESAMPLER),
    ("encoder.mid_block.resnets.{n}", "encoder.middle.{n}", _ENCODER_BLOCK),
    ("encoder.norm_out", "encoder.norm_out", (("gamma", "gamma"),)),
    ("encoder.conv_out", "encoder.conv_out", (("conv.*", "*"),)),
    ("decoder.conv_in", "decoder.conv_in", (("conv.*", "*"),)),
    ("decoder.mid_block.resnets.{n}", "decoder.middle.{n}", _DECODER_BLOCK),
    ("decoder.up_blocks.{n}.resnets.{n}", "decoder.stages.{n}.{n}", _DECODER_BLOCK),
    *(
        (f"decoder.up_blocks.{i + 1}.upsamplers.0.conv", f"decoder.ups.{i}", _RESAMPLER)
        for i in range(len(DOWN_FRAMES))
    ),
    ("decoder.norm_out", "decoder.norm_out", _DECODER_NORM),
    ("decoder.conv_out", "decoder.conv_out", (("conv.*", "*"),)),
)
TOKENIZER_NAMES: Names = (
    *((f"{theirs}.{a}", f"{ours}.{b}") for theirs, ours, inside in _PARTS for a, b in inside),
    ("proj_down.*", "proj_down.*"),
    ("proj_up.*", "proj_up.*"),
    (SCALE, "scale"),
)
TOKENIZER_UNUSED = ("quantizer.*", "quantize.*", "proj_down_two.*", "proj_up_two.*")
"""Tensors that no released function uses. They are not loaded."""

TRANSFORMER_NAMES: Names = (
    ("cfg_uncond", "unconditional_text"),
    ("text_proj.*", "text_proj.*"),
    ("word_embed.*", "word_embedding.*"),
    ("norm_hidden_sates.weight", "norm.weight"),  # sic
    ("head.*", "head.*"),
    ("semantic_head2.*", "semantic_head.*"),
    ("blocks.{n}.input_layernorm.weight", "blocks.{n}.norm1.weight"),
    ("blocks.{n}.post_attention_layernorm.weight", "blocks.{n}.norm2.weight"),
    *((f"blocks.{{n}}.attn.{theirs}.weight", f"blocks.{{n}}.attention.{ours}.weight") for theirs, ours in _ATTENTION),
    *((f"blocks.{{n}}.mlp.{name}_proj.weight", f"blocks.{{n}}.mlp.{name}.weight") for name in ("gate", "up", "down")),
)
TRANSFORMER_UNUSED = ("sos_token", *MASKS)
"""Tensors that no released function uses. They are not loaded."""


def is_infinity_star(state: State) -> bool:
    """Return whether a state is that of an InfinityStar transformer."""
    return "cfg_uncond" in state and "norm_hidden_sates.weight" in state


def is_video_tokenizer(state: State) -> bool:
    """Return whether a state is that of a video tokenizer."""
    return SCALE in (nested if isinstance(nested := state.get("vae"), dict) else state)


def from_official(
    tokenizer_state: State,
    transformer_state: State,
    *,
    schedule: SpacetimeSchedule | None = None,
    text_rows: int | None = None,
    as_stored: bool = False,
) -> tuple[VideoTokenizer, InfinityStar]:
    """Build our models from the weights of an official video tokenizer and transformer, in float32.

    Args:
        schedule: see `video_tokenizer_from_official`.
        text_rows, as_stored: see `infinity_star_from_official`.
    """
    if not is_video_tokenizer(tokenizer_state):
        raise InputError(f"an InfinityStar transformer expects a video tokenizer with {SCALE}, not one of images")
    model = infinity_star_from_official(transformer_state, text_rows=text_rows, as_stored=as_stored)
    tokenizer = video_tokenizer_from_official(tokenizer_state, schedule)
    if tokenizer.config.code_dim != model.config.bits:
        raise InputError(
            f"the transformer predicts {model.config.bits} bits per token, but the tokenizer has "
            f"{tokenizer.config.code_dim} channels"
        )
    return tokenizer, model


def to_official(tokenizer: VideoTokenizer, model: InfinityStar) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the two official state dictionaries. They lack the tensors that no released function uses."""
    return video_tokenizer_to_official(tokenizer), infinity_star_to_official(model)


def infinity_star_from_official(state: State, *, text_rows: int | None = None, as_stored: bool = False) -> InfinityStar:
    """Build our transformer from official weights.

    Args:
        text_rows: R. If the state has fewer rows of ``cfg_uncond``, the rest is initialized; if more, they are cut.
        as_stored: keep the types of the tensors, and share their memory.

    Raises:
        InputError: a tensor is missing, unknown, or has another shape.
    """
    state, chunks = without_chunks(state)
    state = {re.sub(r"^semantic_head\.", "semantic_head2.", name): tensor for name, tensor in state.items()}
    shape = shape_of(state, TRANSFORMER)
    depth = largest_number(state, "blocks.{n}.*")
    if not depth:
        raise InputError(f"{TRANSFORMER} has no blocks of an InfinityStar transformer")
    width, bits = shape("word_embed.weight", 2)
    rows, text_width = shape("cfg_uncond", 2)
    head_dim = shape("blocks.0.attn.q_norm.weight", 1)[0]
    config = InfinityStarConfig(
        depth=depth,
        width=width,
        heads=shape("blocks.0.attn.q_proj.weight", 2)[0] // head_dim,
        kv_heads=shape("blocks.0.attn.k_proj.weight", 2)[0] // head_dim,
        hidden=shape("blocks.0.mlp.gate_proj.weight", 2)[0],
        bits=bits,
        semantic_bits=shape("semantic_head2.weight", 2)[0] // 2,
        text_width=text_width,
        text_rows=text_rows or rows,
        chunks=chunks,
    )
    renamed = rename(state, TRANSFORMER_NAMES, TRANSFORMER_UNUSED, TRANSFORMER, as_stored)
    model = build_on_meta(InfinityStar, config, most_parameters(renamed), TRANSFORMER)
    check_complete(renamed, model.state_dict(), TRANSFORMER_NAMES, TRANSFORMER, depth // chunks if chunks > 1 else 0)
    renamed["unconditional_text"] = with_rows(renamed["unconditional_text"], config.text_rows)
    return fill(model, renamed, TRANSFORMER).eval()


def infinity_star_to_official(model: InfinityStar) -> dict[str, Tensor]:
    """Return the official state dictionary. It lacks the tensors that no released function uses."""
    state = rename(model.state_dict(), swapped(TRANSFORMER_NAMES), (), "the transformer")
    per_chunk = model.config.depth // model.config.chunks
    return {chunked(name, per_chunk): tensor for name, tensor in state.items()} if model.config.chunks > 1 else state


def video_tokenizer_from_official(state: State, schedule: SpacetimeSchedule | None = None) -> VideoTokenizer:
    """Build our video tokenizer from the content of ``infinitystar_videovae.pth``, or its entry ``vae``, in float32.

    Args:
        schedule: the default schedule, which the weights do not tell. None means that of 480p and 5 seconds.

    Raises:
        InputError: a tensor is missing, unknown, or has another shape.
    """
    nested = state.get("vae")
    state = nested if isinstance(nested, dict) else state
    shape = shape_of(state, TOKENIZER)
    stages = largest_number(state, "encoder.down_blocks.{n}.resnets.*")
    widths = [shape(f"encoder.down_blocks.{i}.resnets.0.conv1.conv.weight", 5)[0] for i in range(stages)]
    config = VideoTokenizerConfig(
        (*widths, shape("encoder.conv_out.conv.weight", 5)[1]),
        largest_number(state, "encoder.down_blocks.0.resnets.{n}.*"),
        shape("decoder.conv_in.conv.weight", 5)[1],
        schedule=schedule or SpacetimeSchedule.official(),
    )
    renamed = rename(state, TOKENIZER_NAMES, TOKENIZER_UNUSED, TOKENIZER)
    shape(SCALE, 1)
    renamed["scale"] = renamed["scale"][0]  # the others belong to the unused projections
    tokenizer = build_on_meta(VideoTokenizer, config, most_parameters(renamed), TOKENIZER)
    check_complete(renamed, tokenizer.state_dict(), TOKENIZER_NAMES, TOKENIZER)
    return fill(tokenizer, renamed, TOKENIZER).eval()


def video_tokenizer_to_official(tokenizer: VideoTokenizer) -> dict[str, Tensor]:
    """Return the official state dictionary. It lacks the tensors that no released function uses.

    The official code accepts it, because it does not load strictly.
    """
    state = rename(tokenizer.state_dict(), swapped(TOKENIZER_NAMES), (), "the video tokenizer")
    state[SCALE] = torch.cat((state[SCALE].reshape(1), torch.ones(3).to(state[SCALE])))
    return state
