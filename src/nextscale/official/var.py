"""Official VAR checkpoints to our models and back, with every tensor unchanged.

Only the names differ: the tables below pair them. The configuration follows from the shapes of the tensors, except for
the schedule, ``quant_resi`` and ``znorm``, which are arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.module_folder import build_on_meta, fill, most_parameters
from nextscale.official.names import Names, State, count_numbers, rename, shape_of, swapped
from nextscale.scales.schedule import NAMED_SIDES, ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.var import VAR, VARConfig

# (official, ours); see `nextscale.official.names`.
TOKENIZER_NAMES: Names = (
    ("encoder.down.{n}.block.{n}.nin_shortcut.*", "encoder.levels.{n}.blocks.{n}.shortcut.*"),
    ("encoder.down.{n}.block.{n}.*", "encoder.levels.{n}.blocks.{n}.*"),
    ("encoder.down.{n}.attn.{n}.proj_out.*", "encoder.levels.{n}.attentions.{n}.proj.*"),
    ("encoder.down.{n}.attn.{n}.*", "encoder.levels.{n}.attentions.{n}.*"),
    ("encoder.down.{n}.downsample.*", "encoder.levels.{n}.resample.*"),
    ("decoder.up.{n}.block.{n}.nin_shortcut.*", "decoder.levels.{n}.blocks.{n}.shortcut.*"),
    ("decoder.up.{n}.block.{n}.*", "decoder.levels.{n}.blocks.{n}.*"),
    ("decoder.up.{n}.attn.{n}.proj_out.*", "decoder.levels.{n}.attentions.{n}.proj.*"),
    ("decoder.up.{n}.attn.{n}.*", "decoder.levels.{n}.attentions.{n}.*"),
    ("decoder.up.{n}.upsample.*", "decoder.levels.{n}.resample.*"),
    *(
        pair
        for part in ("encoder", "decoder")
        for pair in (
            (f"{part}.mid.block_1.*", f"{part}.middle.0.*"),
            (f"{part}.mid.attn_1.proj_out.*", f"{part}.middle.1.proj.*"),
            (f"{part}.mid.attn_1.*", f"{part}.middle.1.*"),
            (f"{part}.mid.block_2.*", f"{part}.middle.2.*"),
            (f"{part}.conv_in.*", f"{part}.conv_in.*"),
            (f"{part}.norm_out.*", f"{part}.norm_out.*"),
            (f"{part}.conv_out.*", f"{part}.conv_out.*"),
        )
    ),
    ("quantize.embedding.weight", "pyramid.codebook.weight"),
    ("quant_conv.*", "quant_conv.*"),
    ("post_quant_conv.*", "post_quant_conv.*"),
)
# The official names of the phi convolutions depend on how scales share them.
PHI_SHARED = (("quantize.quant_resi.qresi.*", "pyramid.phi.0.*"),)
PHI_PARTLY_SHARED = (("quantize.quant_resi.qresi_ls.{n}.*", "pyramid.phi.{n}.*"),)
PHI_PER_SCALE = (("quantize.quant_resi.{n}.*", "pyramid.phi.{n}.*"),)

TRANSFORMER_NAMES = (
    ("pos_start", "start_embedding"),
    ("pos_1LC", "position_embedding"),
    ("word_embed.*", "word_embedding.*"),
    ("class_emb.weight", "class_embedding.weight"),
    ("lvl_embed.weight", "level_embedding.weight"),
    ("blocks.{n}.attn.mat_qkv.weight", "blocks.{n}.attention.qkv.weight"),
    ("blocks.{n}.attn.q_bias", "blocks.{n}.attention.q_bias"),
    ("blocks.{n}.attn.v_bias", "blocks.{n}.attention.v_bias"),
    ("blocks.{n}.attn.scale_mul_1H11", "blocks.{n}.attention.log_scale"),
    ("blocks.{n}.attn.proj.*", "blocks.{n}.attention.proj.*"),
    ("blocks.{n}.ffn.fc1.*", "blocks.{n}.mlp.up.*"),
    ("blocks.{n}.ffn.fc2.*", "blocks.{n}.mlp.down.*"),
    ("head_nm.ada_lin.1.*", "head_adaln.*"),
    ("head.*", "head.*"),
)
ADALN_PER_BLOCK = (("blocks.{n}.ada_lin.1.*", "adaln.{n}.*"),)
ADALN_SHARED = (("shared_ada_lin.1.*", "adaln.0.*"), ("blocks.{n}.ada_gss", "adaln_offset.{n}"))

TOKENIZER_BUFFERS = ("quantize.ema_vocab_hit_SV",)
TRANSFORMER_BUFFERS = ("lvl_1L", "attn_bias_for_masking", "blocks.{n}.attn.zero_k_bias")


def from_official(
    tokenizer_state: State,
    var_state: State,
    *,
    schedule: ScaleSchedule | None = None,
    quant_resi: float = 0.5,
    znorm: bool = False,
) -> tuple[ImageTokenizer, VAR]:
    """Build our models from the weights of an official tokenizer and transformer, in float32.

    Tensors that are already float32 are shared, not copied.

    Args:
        tokenizer_state: Content of ``vae_ch160v4096z32.pth``.
        var_state: Content of ``var_d*.pth``.
        schedule: Sizes of the scales. None chooses the official schedule with the right number of tokens.
        quant_resi: Weight of the phi convolutions.
        znorm: Choose the nearest code by cosine similarity.

    Raises:
        InputError: The states do not belong to official models, to this schedule, or to each other.
    """
    if "pos_1LC" in tokenizer_state:
        raise InputError("the first state is a transformer's: expected the tokenizer's first, then the transformer's")
    schedule = schedule or schedule_of(var_state)
    tokenizer = tokenizer_from_official(tokenizer_state, schedule, quant_resi=quant_resi, znorm=znorm)
    return tokenizer, var_from_official(var_state, schedule)


def to_official(tokenizer: ImageTokenizer, model: VAR) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two official state dictionaries, including buffers. The official code loads them.

    Raises:
        InputError: Plain attention whose heads do not have dimension 64: an official state cannot express it.
    """
    if not model.config.l2_norm and model.config.width != 64 * model.config.heads:
        raise InputError(
            f"an official transformer with plain attention has heads of dimension 64, "
            f"not {model.config.width // model.config.heads}"
        )
    config, schedule = tokenizer.config, tokenizer.schedule
    phi: Names = PHI_PER_SCALE
    if config.num_phi:
        phi = PHI_SHARED if config.num_phi == 1 else PHI_PARTLY_SHARED
    tokenizer_state = rename(tokenizer.state_dict(), swapped(TOKENIZER_NAMES + phi), (), "the tokenizer")
    codes = tokenizer_state["quantize.embedding.weight"]
    tokenizer_state["quantize.ema_vocab_hit_SV"] = codes.new_zeros(schedule.num_scales, config.codebook_size)

    adaln = ADALN_SHARED if model.config.shared_adaln else ADALN_PER_BLOCK
    var_state = rename(model.state_dict(), swapped(TRANSFORMER_NAMES + adaln), (), "the transformer")
    levels = torch.tensor(model.schedule.level_ids, device=model.head.weight.device)
    allowed = levels[:, None] >= levels[None, :]
    var_state["lvl_1L"] = levels[None]
    zeros = torch.zeros(allowed.shape, device=levels.device)
    var_state["attn_bias_for_masking"] = zeros.masked_fill(~allowed, -torch.inf)[None, None]
    for i in range(model.config.depth):
        var_state[f"blocks.{i}.attn.zero_k_bias"] = torch.zeros_like(var_state[f"blocks.{i}.attn.q_bias"])
    return tokenizer_state, var_state


def tokenizer_from_official(
    state: State, schedule: ScaleSchedule, *, quant_resi: float = 0.5, znorm: bool = False
) -> ImageTokenizer:
    """Build our tokenizer from official weights."""
    source = "the official tokenizer state"
    shape = shape_of(state, source)
    code_count, code_dim = shape("quantize.embedding.weight", 2)
    levels = count_numbers(state, "encoder.down.{n}.block.0.conv1.weight")
    channels = shape("encoder.conv_in.weight", 4)[0]
    num_phi, phi = _phi_layout(state, schedule)
    config = TokenizerConfig(
        schedule=schedule,
        channels=channels,
        multipliers=tuple(shape(f"encoder.down.{i}.block.0.conv1.weight", 4)[0] // channels for i in range(levels)),
        num_blocks=count_numbers(state, "encoder.down.0.block.{n}.conv1.weight"),
        code_dim=code_dim,
        codebook_size=code_count,
        quant_resi=quant_resi if phi else 0.0,
        num_phi=num_phi,
        znorm=znorm,
    )
    renamed = rename(state, TOKENIZER_NAMES + phi, TOKENIZER_BUFFERS, source)
    return fill(build_on_meta(ImageTokenizer, config, most_parameters(renamed), source), renamed, source).eval()


def var_from_official(state: State, schedule: ScaleSchedule) -> VAR:
    """Build our transformer from official weights."""
    source = "the official transformer state"
    shape = shape_of(state, source)
    num_tokens, width = shape("pos_1LC", 3)[1:]
    if num_tokens != schedule.num_tokens or shape("lvl_embed.weight", 2)[0] != schedule.num_scales:
        raise InputError(
            f"{source} is for {num_tokens} tokens in {shape('lvl_embed.weight', 2)[0]} scales, "
            f"but the schedule ({schedule}) has {schedule.num_tokens} in {schedule.num_scales}"
        )
    shared = "shared_ada_lin.1.weight" in state
    l2_norm = "blocks.0.attn.scale_mul_1H11" in state
    config = VARConfig(
        schedule=schedule,
        depth=count_numbers(state, "blocks.{n}.attn.mat_qkv.weight"),
        width=width,
        heads=shape("blocks.0.attn.scale_mul_1H11", 4)[1] if l2_norm else width // 64,
        mlp_ratio=shape("blocks.0.ffn.fc1.weight", 2)[0] / width,
        num_classes=shape("class_emb.weight", 2)[0] - 1,
        codebook_size=shape("head.weight", 2)[0],
        code_dim=shape("word_embed.weight", 2)[1],
        shared_adaln=shared,
        l2_norm=l2_norm,
    )
    names = TRANSFORMER_NAMES + (ADALN_SHARED if shared else ADALN_PER_BLOCK)
    renamed = rename(state, names, TRANSFORMER_BUFFERS, source)
    return fill(build_on_meta(VAR, config, most_parameters(renamed), source), renamed, source).eval()


def schedule_of(var_state: State) -> ScaleSchedule:
    """The official schedule whose number of tokens equals the transformer's number of positions."""
    num_tokens = shape_of(var_state, "the official transformer state")("pos_1LC", 3)[1]
    for name in NAMED_SIDES:
        if ScaleSchedule.named(name).num_tokens == num_tokens:
            return ScaleSchedule.named(name)
    known = ", ".join(f"{ScaleSchedule.named(name).num_tokens} ({name} pixels)" for name in NAMED_SIDES)
    raise InputError(f"no official schedule has {num_tokens} tokens; known are {known}. Give the schedule")


def _phi_layout(state: State, schedule: ScaleSchedule) -> tuple[int, Names]:
    """(num_phi, name table) of the phi convolutions. The table is empty if there are none."""
    if "quantize.quant_resi.qresi.weight" in state:
        return 1, PHI_SHARED
    if count := count_numbers(state, "quantize.quant_resi.qresi_ls.{n}.weight"):
        return count, PHI_PARTLY_SHARED
    if count := count_numbers(state, "quantize.quant_resi.{n}.weight"):
        if count != schedule.num_scales:
            raise InputError(
                f"the tokenizer has one phi for each of {count} scales, the schedule {schedule.num_scales}"
            )
        return 0, PHI_PER_SCALE
    return 1, ()
