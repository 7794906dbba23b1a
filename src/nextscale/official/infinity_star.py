"""Official InfinityStar checkpoints to our models and back, with every tensor that is used unchanged.

The tables pair the names. The configuration follows from the shapes of the tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.module_folder import build_on_meta, fill, most_parameters
from nextscale.official.names import Names, State, largest_number, rename, shape_of, swapped
from nextscale.tokenizer.video_autoencoder import DOWN_FRAMES
from nextscale.tokenizer.video_tokenizer import VideoTokenizer, VideoTokenizerConfig

TOKENIZER = "the official video tokenizer state"
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


def video_tokenizer_from_official(state: State) -> VideoTokenizer:
    """Build our video tokenizer from the content of ``infinitystar_videovae.pth``, or its entry ``vae``, in float32.

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
    )
    renamed = rename(state, TOKENIZER_NAMES, TOKENIZER_UNUSED, TOKENIZER)
    if len(scale := renamed.get("scale", torch.ones(0)).flatten()) == 0:
        raise InputError(f"{TOKENIZER} has no tensor {SCALE}")
    renamed["scale"] = scale[0]  # the others belong to the unused projections
    tokenizer = build_on_meta(VideoTokenizer, config, most_parameters(renamed), TOKENIZER)
    if missing := [name for name in tokenizer.state_dict() if name not in renamed]:
        official = min(rename(dict.fromkeys(missing, scale), swapped(TOKENIZER_NAMES), (), TOKENIZER))
        raise InputError(
            f"{TOKENIZER} lacks {len(missing)} of {len(tokenizer.state_dict())} tensors (first: {official})"
        )
    return fill(tokenizer, renamed, TOKENIZER).eval()


def video_tokenizer_to_official(tokenizer: VideoTokenizer) -> dict[str, Tensor]:
    """Return the official state dictionary. It lacks the tensors that no released function uses.

    The official code accepts it, because it does not load strictly.
    """
    state = rename(tokenizer.state_dict(), swapped(TOKENIZER_NAMES), (), "the video tokenizer")
    state[SCALE] = torch.cat((state[SCALE].reshape(1), torch.ones(3).to(state[SCALE])))
    return state
