"""Reading and writing official Infinity checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import tiny
import torch
from golden_infinity import BUFFERS, NAMES, Golden, official_layouts
from tiny import random_images, refused, same
from tiny_infinity import DIM, TEXT_ROWS, make_infinity, make_text, make_tokenizer
from torch import Tensor

import nextscale as ns
from nextscale.official.infinity import (
    from_official,
    infinity_from_official,
    is_infinity,
    to_official,
    tokenizer_from_official,
)
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

State = dict[str, Tensor]

CHANNELS = {
    "infinity_vae_d16": 16,
    "infinity_vae_d24": 24,
    "infinity_vae_d32": 32,
    "infinity_vae_d32reg": 32,
    "infinity_vae_d64": 64,
    "infinity_vae_d56_f8_14_patchify": 14,
}
SIZES = {
    "infinity_2b_reg": "2b",
    "infinity_8b_weights": "8b",
    "infinity_layer12": "layer12",
    "infinity_layer16": "layer16",
    "infinity_layer24": "layer24",
    "infinity_layer32": "layer32",
    "infinity_layer40": "layer40",
    "infinity_layer48": "layer48",
}
STALE = ("lvl_1L", "attn_bias_for_masking", "Infinity_visible_kvlen", "Infinity_invisible_qlen")


def empty_state(name: str) -> State:
    """The tensors of a published checkpoint, without their numbers."""
    return {
        tensor: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for tensor, (dtype, *shape) in official_layouts()[name]["tensors"].items()
    }


def layout(state: State) -> dict[str, list]:
    return {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in state.items()}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


# ---- published models --------------------------------------------------------------------------------------------


def test_every_published_layout_is_tested():
    assert official_layouts().keys() == CHANNELS.keys() | SIZES.keys()


@pytest.mark.parametrize("name", CHANNELS)
def test_the_published_tokenizers(name):
    patchify = name.endswith("patchify")
    tokenizer = tokenizer_from_official(empty_state(name), patchify=patchify)
    assert tokenizer.config == ns.TokenizerConfig.infinity(CHANNELS[name], patchify)
    assert parameters(tokenizer) == official_layouts()[name]["parameters"]
    state, _ = to_official(tokenizer, make_infinity())
    assert layout(state) == official_layouts()[name]["tensors"]


@pytest.mark.parametrize("name", SIZES)
def test_the_published_transformers(name):
    vae = "infinity_vae_d56_f8_14_patchify" if SIZES[name] == "8b" else "infinity_vae_d32reg"
    tokenizer, model = from_official(empty_state(vae), empty_state(name))
    assert model.config == InfinityConfig.named(SIZES[name])
    assert tokenizer.config.patchify == (SIZES[name] == "8b")
    assert parameters(model) == official_layouts()[name]["parameters"]
    _, state = to_official(tokenizer, model)
    assert layout(state) == official_layouts()[name]["tensors"]


# ---- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_golden_states_there_and_back(name):
    case = Golden(name)
    for part, state in zip(("vae", "transformer"), to_official(*case.models), strict=True):
        assert layout(state) == case.info[part]
        assert equal({n: t for n, t in state.items() if not n.endswith(BUFFERS)}, case.state(part))
        assert not any(t.any() for n, t in state.items() if n.endswith("zero_k_bias"))


@pytest.mark.parametrize("patchify", [False, True])
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_models_there_and_back(patchify, chunks):
    tokenizer, model = make_tokenizer(patchify), make_infinity(patchify, chunks=chunks)
    states = to_official(tokenizer, model)
    blocks = {name.rpartition(".sa.")[0] for name in states[1] if ".sa." in name}
    if chunks == 1:
        assert blocks == {f"blocks.{i}" for i in range(4)}
    else:
        assert blocks == {f"block_chunks.{c}.module.{m}" for c in range(chunks) for m in range(4 // chunks)}
    back = from_official(*states, schedule=model.schedule)
    assert (back[0].config, back[1].config) == (tokenizer.config, model.config)
    assert equal(back[0].state_dict(), tokenizer.state_dict()) and equal(back[1].state_dict(), model.state_dict())
    assert all(equal(a, b) for a, b in zip(to_official(*back), states, strict=True))
    images = random_images(tokenizer)
    assert same(back[0].encode(images), tokenizer.encode(images))
    first, second = (ns.sample(*models, make_text(3), cfg=3.0) for models in ((tokenizer, model), back))
    assert same(first.tokens, second.tokens) and torch.equal(first.images, second.images)


def test_the_masks_are_powers_of_two():
    state, _ = to_official(make_tokenizer(), make_infinity())
    for name in ("quantizer.lfq.mask", "quantize.lfq.mask"):
        assert state[name].tolist() == [32, 16, 8, 4, 2, 1]


# ---- variants of the official files ------------------------------------------------------------------------------


@pytest.fixture
def states() -> tuple[State, State]:
    return to_official(make_tokenizer(), make_infinity(chunks=2))


def load(states: Sequence[State], **options) -> tuple[ns.ImageTokenizer, Infinity]:
    tokenizer_state, transformer_state = states
    return from_official(tokenizer_state, transformer_state, schedule=make_infinity().schedule, **options)


def without_wrappers(state: State) -> State:
    """``X.weight`` for ``X.conv.weight`` and ``X.norm.weight``."""
    plain = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        plain[f"{module.removesuffix('.conv').removesuffix('.norm')}.{kind}"] = tensor
    return plain


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_names_with_and_without_wrappers(states, wrapped, nested):
    state = states[0] if wrapped else without_wrappers(states[0])
    assert wrapped == ("encoder.down.0.block.0.norm1.norm.weight" in state)
    assert wrapped == ("encoder.down.0.downsample.conv.conv.weight" in state)
    tokenizer, _ = load(({"vae": state, "step": 7} if nested else state, states[1]))  # type: ignore[arg-type]
    assert equal(tokenizer.state_dict(), make_tokenizer().state_dict())


def test_what_training_and_older_versions_leave_in_the_files(states):
    tokenizer_state, transformer_state = states
    tokenizer_state |= {
        "perceptual_model.net.slice1.0.weight": torch.ones(3),
        "perceptual_model.scaling_layer.shift": torch.ones(1, 3, 1, 1),
    }
    transformer_state |= dict.fromkeys(STALE, torch.ones(1))
    models = load(states)
    assert equal(models[0].state_dict(), make_tokenizer().state_dict())
    assert equal(models[1].state_dict(), make_infinity().state_dict())


def test_buffers_may_be_missing(states):
    models = load(tuple({n: t for n, t in state.items() if not n.endswith(BUFFERS)} for state in states))
    assert equal(models[0].state_dict(), make_tokenizer().state_dict())
    assert equal(models[1].state_dict(), make_infinity().state_dict())


def test_scales_of_the_flash_attention_kernel(states):
    for name, tensor in states[1].items():
        if name.endswith("scale_mul_1H11"):
            assert tensor.shape == (1, 3, 1, 1)
            states[1][name] = tensor.reshape(1, 1, 3, 1)
    _, model = load(states)
    assert equal(model.state_dict(), make_infinity().state_dict())


def test_fewer_rows_for_no_prompt(states):
    """The rest is that of a new model."""
    full = states[1]["cfg_uncond"]
    states[1]["cfg_uncond"] = full[:5]
    _, model = load(states)
    assert model.config.text_rows == 5 and torch.equal(model.unconditional_text, full[:5])
    _, model = load(states, text_rows=TEXT_ROWS)
    fresh = Infinity(model.config).unconditional_text
    assert model.config.text_rows == TEXT_ROWS
    assert torch.equal(model.unconditional_text, torch.cat((full[:5], fresh[5:])))


def test_more_rows_for_no_prompt(states):
    _, model = load(states, text_rows=5)
    assert model.config.text_rows == 5
    assert torch.equal(model.unconditional_text, states[1]["cfg_uncond"][:5])


def test_fewer_rows_on_the_meta_device():
    state = empty_state("infinity_layer12")
    state["cfg_uncond"] = state["cfg_uncond"][:77]
    model = infinity_from_official(state, text_rows=512)
    assert parameters(model) == official_layouts()["infinity_layer12"]["parameters"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32(states, dtype):
    halves = tuple({n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()} for state in states)
    for module, state in zip(load(halves), (make_tokenizer(), make_infinity()), strict=True):
        expected = {name: tensor.to(dtype).float() for name, tensor in state.state_dict().items()}
        assert equal(module.state_dict(), expected)


def test_the_conversion_copies_nothing(states):
    _, model = load(states)
    assert model.head.weight.data_ptr() == states[1]["head.weight"].data_ptr()


def test_the_mode_of_the_rotary_positions_is_an_argument(states):
    assert [load(states, rope=mode)[1].config.rope for mode in (0, 1, 2)] == [0, 1, 2]
    with refused("rope", 3):
        load(states, rope=3)


def test_which_states_are_infinity_s(states):
    assert is_infinity(states[1]) and not is_infinity(states[0])


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0, 1])
def test_unknown_tensors(states, part):
    states[part]["surprise.weight"] = torch.zeros(1)
    with refused("unknown tensor", "surprise.weight"):
        load(states)


def test_an_unknown_tensor_of_a_block(states):
    states[1]["block_chunks.1.module.0.ca_gamma"] = torch.zeros(1)
    with refused("unknown tensor", "ca_gamma"):
        load(states)


@pytest.mark.parametrize("part", [0, 1])
def test_a_missing_tensor_is_named(states, part):
    """Whichever it is, and whatever is read off it."""
    read = (tokenizer_from_official, infinity_from_official)[part]
    names = [name for name in states[part] if not name.endswith(BUFFERS)]
    for name in names if part else [n for n in names if not re.search("norm|bias", n)]:
        short = name.partition(".module.")[2].partition(".")[2] or name  # blocks may be counted through
        with refused(("the official tokenizer state", "the official transformer state")[part], short):
            read({n: tensor for n, tensor in states[part].items() if n != name})


def test_several_missing_tensors_are_counted(states):
    damaged = {n: t for n, t in states[1].items() if not n.startswith("block_chunks.1.module.0.")}
    with refused("lacks 19 of 97 tensors", "block_chunks.1.module.0.ada_gss"):
        load((states[0], damaged))
    damaged = {n: t for n, t in states[0].items() if not n.startswith("encoder.down.1.downsample.")}
    with refused("lacks 2 of 128 tensors", "encoder.down.1.downsample.conv.conv.bias"):
        load((damaged, states[1]))


def test_a_block_of_a_strange_number(states):
    """It does not make a model of so many blocks."""
    states[1]["blocks.123456789.sa.q_bias"] = torch.zeros(48)
    with refused():
        load(states)


@pytest.mark.parametrize(
    ("part", "name", "shape"),
    [
        (0, "encoder.mid.block_1.conv1.conv.weight", (64, 64, 5, 5)),
        (1, "block_chunks.1.module.0.sa.proj.weight", (96, 48)),
        (1, "word_embed.bias", (47,)),
    ],
)
def test_tensors_of_another_shape(states, part, name, shape):
    expected = tuple(states[part][name].shape)
    states[part][name] = torch.zeros(shape)
    with refused(shape, expected):
        load(states)


def test_a_tokenizer_of_another_number_of_channels(states):
    other, _ = to_official(make_tokenizer(code_dim=8), make_infinity())
    with refused(f"{DIM} bits", "8 channels"):
        load((other, states[1]))
    with refused("32 bits", "24 channels"):
        from_official(empty_state("infinity_vae_d24"), empty_state("infinity_2b_reg"))
    with refused("56 bits", "64 channels"):
        from_official(empty_state("infinity_vae_d64"), empty_state("infinity_8b_weights"))


def test_patchify_that_does_not_fit(states):
    with refused(f"{DIM} bits", f"{DIM} channels", f"{4 * DIM} bits with patchify"):
        load(states, patchify=True)
    with refused(f"{4 * DIM} bits", f"{DIM} channels"):
        load(to_official(make_tokenizer(True), make_infinity(True)), patchify=False)


def test_swapped_states(states):
    with refused("the tokenizer's first"):
        load((states[1], states[0]))


@pytest.mark.parametrize("empty", [0, 1])
def test_empty_states(states, empty):
    with refused("the official tokenizer state" if empty == 0 else "the official transformer state"):
        load(tuple({} if i == empty else state for i, state in enumerate(states)))


def test_weights_of_another_family(states):
    """VAR's, in either place."""
    schedule = tiny.SCHEDULES["square"]
    vae, var = ns.to_official(tiny.make_tokenizer(schedule, code_dim=DIM), tiny.make_var(schedule))
    assert not is_infinity(var)
    with refused("the official transformer state"):
        load((states[0], var))
    with refused("the official tokenizer state"):
        load((vae, states[1]))
