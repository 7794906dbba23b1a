"""Reading and writing official checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
from golden import FOLDER, NAMES, Golden
from tiny import SCHEDULES, make_tokenizer, make_var, random_images, refused, same

import nextscale as ns
from nextscale.families.var import PUBLISHED

SQUARE = SCHEDULES["square"]
LAYOUTS = json.loads((FOLDER / "official_checkpoint_layouts.json").read_text())
TOKENIZER = "vae_ch160v4096z32"
PARAMETERS = {"d16": 310.28, "d20": 600.92, "d24": 1033.40, "d30": 2010.02, "d36": 2353.89}  # in millions
TOKENIZERS = ({}, {"num_phi": 0}, {"num_phi": 1}, {"quant_resi": 0.0}, {"znorm": True})
TRANSFORMERS = ({}, {"shared_adaln": True}, {"l2_norm": False}, {"mlp_ratio": 2.5})


def empty_state(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a published checkpoint, without their numbers."""
    return {
        tensor: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for tensor, (dtype, *shape) in LAYOUTS[name].items()
    }


def layout(state: dict[str, torch.Tensor]) -> dict[str, list]:
    return {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in state.items()}


def parameters(module: torch.nn.Module) -> float:
    """In millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def test_the_published_tokenizer():
    tokenizer, _ = ns.from_official(empty_state(TOKENIZER), empty_state("var_d16"))
    assert tokenizer.config == ns.TokenizerConfig()
    assert parameters(tokenizer) == pytest.approx(108.95, abs=0.005)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_transformers(name):
    published = PUBLISHED[name]
    tokenizer, model = ns.from_official(empty_state(TOKENIZER), empty_state(f"var_{name}"))
    assert (tokenizer.config, model.config) == (published.tokenizer, published.model)
    assert parameters(model) == pytest.approx(PARAMETERS[name], abs=0.005)
    tokenizer_state, var_state = ns.to_official(tokenizer, model)
    assert layout(tokenizer_state) == LAYOUTS[TOKENIZER]
    assert layout(var_state) == LAYOUTS[f"var_{name}"]


@pytest.mark.parametrize("variant", TOKENIZERS, ids=str)
def test_a_tokenizer_there_and_back(schedule, variant):
    tokenizer, model = make_tokenizer(schedule, **variant), make_var(schedule)
    quant_resi, znorm = tokenizer.config.quant_resi, tokenizer.config.znorm
    states = ns.to_official(tokenizer, model)
    back, _ = ns.from_official(*states, schedule=schedule, quant_resi=quant_resi, znorm=znorm)
    assert equal(back.state_dict(), tokenizer.state_dict())
    assert equal(ns.to_official(back, model)[0], states[0])
    images = random_images(tokenizer)
    assert same(back.encode(images), tokenizer.encode(images))
    assert torch.equal(back.decode(back.encode(images)), tokenizer.decode(tokenizer.encode(images)))


@pytest.mark.parametrize("variant", TRANSFORMERS, ids=str)
def test_a_transformer_there_and_back(schedule, variant):
    tokenizer, model = make_tokenizer(schedule), make_var(schedule, **variant)
    states = ns.to_official(tokenizer, model)
    _, back = ns.from_official(*states, schedule=schedule)
    assert back.config == model.config
    assert equal(back.state_dict(), model.state_dict())
    assert equal(ns.to_official(tokenizer, back)[1], states[1])


@pytest.mark.parametrize("name", NAMES)
def test_golden_states_there_and_back(name):
    golden = Golden(name)
    states = ns.to_official(*golden.models())
    for part, state in zip(("vae", "var"), states, strict=True):
        layout = golden.info[part]
        assert {n: list(t.shape) for n, t in state.items()} == {n: entry["shape"] for n, entry in layout.items()}
        assert equal({n: t for n, t in state.items() if not layout[n]["constant"]}, golden.state(part))


def test_buffers_are_what_the_official_model_makes_of_the_schedule(schedule):
    _, state = ns.to_official(make_tokenizer(schedule), make_var(schedule))
    levels = torch.tensor([k for k, (h, w) in enumerate(schedule.sizes) for _ in range(h * w)])
    assert torch.equal(state["lvl_1L"], levels[None])
    bias = torch.where(levels[:, None] >= levels[None], 0.0, -torch.inf)
    assert torch.equal(state["attn_bias_for_masking"], bias[None, None])
    assert not state["blocks.1.attn.zero_k_bias"].any()


def test_buffers_may_be_missing_or_of_another_schedule():
    schedule = SCHEDULES["square"]
    tokenizer_state, var_state = ns.to_official(make_tokenizer(schedule), make_var(schedule))
    tokenizer_state["quantize.ema_vocab_hit_SV"] = torch.ones(10, 24)
    for name in ("lvl_1L", "attn_bias_for_masking", "blocks.0.attn.zero_k_bias"):
        del var_state[name]
    tokenizer, model = ns.from_official(tokenizer_state, var_state, schedule=schedule)
    for ours, theirs in ((tokenizer, make_tokenizer(schedule)), (model, make_var(schedule))):
        assert same(list(ours.state_dict().values()), list(theirs.state_dict().values()))


def test_the_conversion_copies_nothing():
    schedule = SCHEDULES["square"]
    states = ns.to_official(make_tokenizer(schedule), make_var(schedule))
    _, model = ns.from_official(*states, schedule=schedule)
    assert model.head.weight.data_ptr() == states[1]["head.weight"].data_ptr()


@pytest.fixture
def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return ns.to_official(make_tokenizer(SCHEDULES["square"]), make_var(SCHEDULES["square"]))


def test_another_schedule(states):
    with refused("30 tokens in 4 scales", "23 in 3"):
        ns.from_official(*states, schedule=SCHEDULES["rectangular"])
    with refused("30 tokens in 4 scales", "30 in 3"):
        ns.from_official(*states, schedule=ns.ScaleSchedule(((1, 1), (2, 2), (5, 5))))


def test_a_schedule_that_cannot_be_guessed(states):
    with refused("30 tokens", 680, 2240, 9451):
        ns.from_official(*states)


def test_one_phi_for_each_scale_of_another_schedule(states):
    tokenizer_state, _ = ns.to_official(
        make_tokenizer(SCHEDULES["rectangular"], num_phi=0), make_var(SCHEDULES["rectangular"])
    )
    with refused("3 scales", "schedule 4"):
        ns.from_official(tokenizer_state, states[1], schedule=SCHEDULES["square"])


@pytest.mark.parametrize("part", [0, 1])
def test_unknown_tensors(states, part):
    states[part]["surprise.weight"] = torch.zeros(1)
    with refused("unknown tensor", "surprise.weight"):
        ns.from_official(*states, schedule=SCHEDULES["square"])


@pytest.mark.parametrize("part", [0, 1])
def test_missing_tensors(states, part):
    """Whichever it is, and whatever is read off it."""
    buffers = ("ema_vocab_hit_SV", "lvl_1L", "attn_bias_for_masking")
    for name in states[part]:
        if not name.endswith(("bias", *buffers)):
            damaged = list(states)
            damaged[part] = {n: tensor for n, tensor in states[part].items() if n != name}
            with refused():
                ns.from_official(*damaged, schedule=SCHEDULES["square"])


@pytest.mark.parametrize(
    ("part", "name", "shape"), [(0, "quant_conv.weight", (8, 8, 5, 5)), (1, "blocks.1.attn.proj.weight", (128, 64))]
)
def test_tensors_of_another_shape(states, part, name, shape):
    expected = tuple(states[part][name].shape)
    states[part][name] = torch.zeros(shape)
    with refused(shape, expected):
        ns.from_official(*states, schedule=SCHEDULES["square"])


def test_swapped_states(states):
    with refused("the tokenizer's first"):
        ns.from_official(states[1], states[0], schedule=SCHEDULES["square"])


@pytest.mark.parametrize("empty", [0, 1])
def test_empty_states(states, empty):
    with refused("has no tensor"):
        ns.from_official(*({} if i == empty else state for i, state in enumerate(states)), schedule=SCHEDULES["square"])


def test_plain_attention_with_heads_that_the_official_code_cannot_have():
    """Their number leaves no trace in the state: it must not come back as another one."""
    schedule = SCHEDULES["square"]
    tokenizer, model = make_tokenizer(schedule), make_var(schedule, l2_norm=False, heads=4)
    with refused("heads"):
        ns.from_official(*ns.to_official(tokenizer, model), schedule=schedule)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
@pytest.mark.parametrize("part", [0, 1])
def test_weights_that_are_no_floating_point_numbers(dtype, part):
    states = [dict(state) for state in ns.to_official(make_tokenizer(SQUARE), make_var(SQUARE))]
    names = ("encoder.conv_in.weight", "blocks.0.attn.proj.weight")
    states[part][names[part]] = states[part][names[part]].to(dtype)
    with refused(names[part], dtype, "floating-point"):
        ns.from_official(*states, schedule=SQUARE)


@pytest.mark.parametrize(
    ("part", "name"), [(0, "encoder.conv_in.weight"), (1, "pos_1LC"), (1, "blocks.0.ffn.fc1.weight")]
)
def test_weights_with_a_side_of_0(part, name):
    states = [dict(state) for state in ns.to_official(make_tokenizer(SQUARE), make_var(SQUARE))]
    states[part][name] = states[part][name][:0]
    with refused(name, "no side of 0"):
        ns.from_official(*states, schedule=SQUARE)
