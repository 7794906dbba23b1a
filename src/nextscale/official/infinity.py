"""Official Infinity checkpoints to our models and back, with every tensor unchanged.

The tables pair the names. The configuration follows from the shapes of the tensors. The state of a tokenizer may have
wrapped names (``conv_in.conv.weight``) or plain ones (``conv_in.weight``).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.module_folder import build_on_meta, fill, most_parameters
from nextscale.official.names import Names, State, largest_number, rename, shape_of, swapped
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

_CONVOLUTIONS = ("conv1", "conv2")
_NORMS = ("norm1", "norm2")

TOKENIZER = "the official tokenizer state"
TRANSFORMER = "the official transformer state"

# (official, ours); see `nextscale.official.names`.
TOKENIZER_NAMES: Names = (
    *(
        pair
        for theirs, ours, shortcut in (
            ("encoder.down.{n}.block.{n}", "encoder.levels.{n}.blocks.{n}", True),
            ("decoder.up.{n}.block.{n}", "decoder.levels.{n}.blocks.{n}", True),
            ("encoder.mid.block_1", "encoder.middle.0", False),
            ("encoder.mid.block_2", "encoder.middle.2", False),
            ("decoder.mid.block_1", "decoder.middle.0", False),
            ("decoder.mid.block_2", "decoder.middle.2", False),
        )
        for pair in (
            *((f"{theirs}.{name}.conv.*", f"{ours}.{name}.*") for name in _CONVOLUTIONS),
            *((f"{theirs}.{name}.norm.*", f"{ours}.{name}.*") for name in _NORMS),
            *(((f"{theirs}.nin_shortcut.conv.*", f"{ours}.shortcut.*"),) if shortcut else ()),
        )
    ),
    ("encoder.down.{n}.downsample.conv.conv.*", "encoder.levels.{n}.resample.conv.*"),
    ("decoder.up.{n}.upsample.conv.conv.*", "decoder.levels.{n}.resample.conv.*"),
    *(
        pair
        for part in ("encoder", "decoder")
        for pair in (
            (f"{part}.conv_in.conv.*", f"{part}.conv_in.*"),
            (f"{part}.norm_out.norm.*", f"{part}.norm_out.*"),
            (f"{part}.conv_out.conv.*", f"{part}.conv_out.*"),
        )
    ),
)
TOKENIZER_BUFFERS = ("quantizer.lfq.mask", "quantize.lfq.mask", "perceptual_model.*")

TRANSFORMER_NAMES: Names = (
    ("cfg_uncond", "unconditional_text"),
    ("pos_start", "start_embedding"),
    ("text_norm.weight", "text_norm.weight"),
    ("text_proj_for_sos.ca.mat_q", "text_pool.query"),
    ("text_proj_for_sos.ca.mat_kv.weight", "text_pool.key_value.weight"),
    ("text_proj_for_sos.ca.v_bias", "text_pool.v_bias"),
    ("text_proj_for_sos.ca.proj.*", "text_pool.proj.*"),
    ("text_proj_for_ca.0.*", "text_up.*"),
    ("text_proj_for_ca.2.*", "text_down.*"),
    ("lvl_embed.weight", "level_embedding.weight"),
    ("word_embed.*", "word_embedding.*"),
    ("shared_ada_lin.1.*", "adaln.*"),
    ("head_nm.ada_lin.1.*", "head_adaln.*"),
    ("head.*", "head.*"),
    ("blocks.{n}.ada_gss", "adaln_offset.{n}"),
    ("blocks.{n}.sa.mat_qkv.weight", "blocks.{n}.attention.qkv.weight"),
    ("blocks.{n}.sa.q_bias", "blocks.{n}.attention.q_bias"),
    ("blocks.{n}.sa.v_bias", "blocks.{n}.attention.v_bias"),
    ("blocks.{n}.sa.scale_mul_1H11", "blocks.{n}.attention.log_scale"),
    ("blocks.{n}.sa.proj.*", "blocks.{n}.attention.proj.*"),
    ("blocks.{n}.ca_norm.*", "blocks.{n}.cross_norm.*"),
    ("blocks.{n}.ca.mat_q.*", "blocks.{n}.cross_attention.query.*"),
    ("blocks.{n}.ca.mat_kv.weight", "blocks.{n}.cross_attention.key_value.weight"),
    ("blocks.{n}.ca.v_bias", "blocks.{n}.cross_attention.v_bias"),
    ("blocks.{n}.ca.proj.*", "blocks.{n}.cross_attention.proj.*"),
    ("blocks.{n}.ffn.fc1.*", "blocks.{n}.mlp.up.*"),
    ("blocks.{n}.ffn.fc2.*", "blocks.{n}.mlp.down.*"),
)
MASKS = ("lvl_1L", "attn_bias_for_masking", "Infinity_visible_kvlen", "Infinity_invisible_qlen")
"""Buffers of older files, for attention masks."""
TRANSFORMER_BUFFERS = (
    "blocks.{n}.sa.zero_k_bias",
    "blocks.{n}.ca.zero_k_bias",
    "text_proj_for_sos.ca.zero_k_bias",
    *MASKS,
)


def is_infinity(state: State) -> bool:
    """Return whether a state is that of an Infinity transformer."""
    return "cfg_uncond" in state and "text_norm.weight" in state


def is_tokenizer(state: State) -> bool:
    """Return whether a state is that of an Infinity tokenizer."""
    return "encoder.conv_out.conv.weight" in plain_names(state)


def from_official(
    tokenizer_state: State,
    transformer_state: State,
    *,
    schedule: ScaleSchedule | None = None,
    patchify: bool | None = None,
    rope: int = 2,
    text_rows: int | None = None,
    as_stored: bool = False,
) -> tuple[ImageTokenizer, Infinity]:
    """Build our models from the weights of an official tokenizer and transformer, in float32.

    Args:
        tokenizer_state: the content of ``infinity_vae_*.pth``, or its entry ``vae``.
        transformer_state: the tensors of the transformer.
        schedule: the default schedule of both; None means the square one for 1024 pixels.
        patchify: whether a token covers 2 x 2 positions. None finds out from the number of bits.
        rope: mode of the rotary positions, which no tensor tells. Released models use 2.
        text_rows: R. If the state has fewer rows of ``cfg_uncond``, the rest is initialized; if more, they are cut.
        as_stored: keep the types of the transformer's tensors, and share their memory.

    Raises:
        InputError: the states do not belong to official models, or not to each other.
    """
    if is_infinity(tokenizer_state):
        raise InputError("the first state is a transformer's: expected the tokenizer's first, then the transformer's")
    model = infinity_from_official(transformer_state, schedule, rope=rope, text_rows=text_rows, as_stored=as_stored)
    channels = shape_of(plain_names(tokenizer_state), TOKENIZER)("encoder.conv_out.conv.weight", 4)[0]
    bits = model.config.bits
    if patchify is None:
        patchify = bits == 4 * channels
    if bits != channels * (4 if patchify else 1):
        raise InputError(
            f"the transformer predicts {bits} bits per token, but the tokenizer has {channels} channels"
            + (f", {4 * channels} bits with patchify" if patchify else "")
        )
    return tokenizer_from_official(tokenizer_state, schedule, patchify=patchify), model


def to_official(tokenizer: ImageTokenizer, model: Infinity) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the two official state dictionaries, including buffers.

    Raises:
        InputError: the model has a text encoder of its own, which the official code does not know.
    """
    if model.words is not None:
        raise InputError("a model with a text encoder of its own has no official format")
    tokenizer_state = rename(tokenizer.state_dict(), swapped(TOKENIZER_NAMES), (), "the tokenizer")
    mask = 2 ** torch.arange(tokenizer.config.code_dim - 1, -1, -1)  # the official code lets it overflow at 64 bits
    tokenizer_state |= dict.fromkeys(TOKENIZER_BUFFERS[:2], mask)
    state = rename(model.state_dict(), swapped(TRANSFORMER_NAMES), (), "the transformer")
    state["text_proj_for_sos.ca.zero_k_bias"] = torch.zeros_like(state["text_proj_for_sos.ca.v_bias"])
    for i in range(model.config.depth):
        for part in ("sa", "ca"):
            state[f"blocks.{i}.{part}.zero_k_bias"] = torch.zeros_like(state[f"blocks.{i}.{part}.v_bias"])
    if model.config.chunks > 1:
        per_chunk = model.config.depth // model.config.chunks
        state = {chunked(name, per_chunk): tensor for name, tensor in state.items()}
    return tokenizer_state, state


def tokenizer_from_official(
    state: State, schedule: ScaleSchedule | None = None, *, patchify: bool | None = False
) -> ImageTokenizer:
    """Build our tokenizer from official weights.

    Args:
        patchify: whether a token covers 2 x 2 positions, which the weights do not tell. None means so for stride 8, as
            in the published models.
    """
    state = plain_names(state)
    shape = shape_of(state, TOKENIZER)
    levels = largest_number(state, "encoder.down.{n}.block.*")
    channels = shape("encoder.conv_in.conv.weight", 4)[0]
    widths = (shape(f"encoder.down.{i}.block.0.conv1.conv.weight", 4)[0] for i in range(levels))
    config = TokenizerConfig.infinity(
        shape("encoder.conv_out.conv.weight", 4)[0],
        levels == 4 if patchify is None else patchify,
        schedule,
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        num_blocks=largest_number(state, "encoder.down.0.block.{n}.*"),
    )
    renamed = rename(state, TOKENIZER_NAMES, TOKENIZER_BUFFERS, TOKENIZER)
    tokenizer = build_on_meta(ImageTokenizer, config, most_parameters(renamed), TOKENIZER)
    check_complete(renamed, tokenizer.state_dict(), TOKENIZER_NAMES, TOKENIZER)
    return fill(tokenizer, renamed, TOKENIZER).eval()


def infinity_from_official(
    state: State,
    schedule: ScaleSchedule | None = None,
    *,
    rope: int = 2,
    text_rows: int | None = None,
    as_stored: bool = False,
) -> Infinity:
    """Build our transformer from official weights."""
    state, chunks = without_chunks(state)
    shape = shape_of(state, TRANSFORMER)
    depth = largest_number(state, "blocks.{n}.*")
    if not depth:
        raise InputError(f"{TRANSFORMER} has no blocks of an Infinity transformer")
    rows, text_width = shape("cfg_uncond", 2)
    log_scale = shape("blocks.0.sa.scale_mul_1H11", 4)
    config = InfinityConfig(
        schedule=schedule or ScaleSchedule.infinity(),
        depth=depth,
        width=shape("word_embed.weight", 2)[0],
        heads=max(log_scale),  # (1, H, 1, 1), or (1, 1, H, 1) from the flash-attention kernel
        hidden=shape("blocks.0.ffn.fc1.weight", 2)[0],
        bits=shape("word_embed.weight", 2)[1],
        text_width=text_width,
        text_rows=text_rows or rows,
        pool_heads=shape("text_proj_for_sos.ca.mat_q", 3)[1],
        levels=shape("lvl_embed.weight", 2)[0],
        rope=rope,
        chunks=chunks,
    )
    renamed = rename(state, TRANSFORMER_NAMES, TRANSFORMER_BUFFERS, TRANSFORMER, as_stored)
    for name in list(renamed):
        if name.endswith(".log_scale"):
            renamed[name] = renamed[name].reshape(1, -1, 1, 1)
    model = build_on_meta(Infinity, config, most_parameters(renamed), TRANSFORMER)
    check_complete(renamed, model.state_dict(), TRANSFORMER_NAMES, TRANSFORMER, depth // chunks if chunks > 1 else 0)
    renamed["unconditional_text"] = with_rows(renamed["unconditional_text"], config.text_rows)
    return fill(model, renamed, TRANSFORMER).eval()


def check_complete(renamed: State, expected: State, names: Names, source: str, per_chunk: int = 0) -> None:
    """Check that a state has all tensors of a model, and name the first missing one as in the official file.

    Args:
        renamed: the state under our names.
        expected: the model's.
        names: pairs of (official, our) names.
        per_chunk: blocks per chunk; 0 if the file does not group blocks.

    Raises:
        InputError: a tensor is missing.
    """
    missing = {name: tensor for name, tensor in expected.items() if name not in renamed}
    if missing:
        official = min(rename(missing, swapped(names), (), source))
        first = chunked(official, per_chunk) if per_chunk else official
        raise InputError(f"{source} lacks {len(missing)} of {len(expected)} tensors (first: {first})")


def with_rows(learned: Tensor, rows: int) -> Tensor:
    """Cut the learned features for "no prompt" to ``rows``, or complete them with newly initialized rows."""
    if rows <= len(learned):
        return learned[:rows]
    width = learned.shape[1]
    fresh = torch.nn.init.trunc_normal_(
        torch.empty(rows, width), std=1.2, a=-2, b=2, generator=torch.Generator().manual_seed(0)
    )
    return torch.cat((learned, fresh[len(learned) :].to(learned) / width**0.5))


def plain_names(state: State) -> State:
    """Return a tokenizer state with wrapped names, whichever it has: ``X.conv.weight`` for ``X.weight``."""
    nested = state.get("vae")
    state = nested if isinstance(nested, dict) else state
    wrapped = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        last = module.rpartition(".")[2]
        if re.fullmatch(r"conv_in|conv_out|conv[12]|nin_shortcut", last) or module.endswith("sample.conv"):
            module += ".conv"
        elif re.fullmatch(r"norm_out|norm[12]", last):
            module += ".norm"
        wrapped[f"{module}.{kind}" if module else name] = tensor
    return wrapped


def without_chunks(state: State) -> tuple[dict[str, Tensor], int]:
    """Return the state with blocks as ``blocks.{i}`` instead of ``block_chunks.{c}.module.{m}``, and the chunks."""
    found = [re.match(r"block_chunks\.(\d+)\.module\.(\d+)\.", name) for name in state]
    places = [(int(m[1]), int(m[2])) for m in found if m]
    if not places:
        return dict(state), 1
    per_chunk = 1 + max(m for _, m in places)
    renamed = {}
    for (name, tensor), match in zip(state.items(), found, strict=True):
        layer = match and per_chunk * int(match[1]) + int(match[2])
        renamed[f"blocks.{layer}.{name[match.end() :]}" if match else name] = tensor
    return renamed, 1 + max(c for c, _ in places)


def chunked(name: str, per_chunk: int) -> str:
    """Return ``block_chunks.{c}.module.{m}.*`` for ``blocks.{i}.*``, and other names unchanged."""
    match = re.match(r"blocks\.(\d+)\.", name)
    if not match:
        return name
    chunk, place = divmod(int(match[1]), per_chunk)
    return f"block_chunks.{chunk}.module.{place}.{name[match.end() :]}"
