"""Teacher forcing and sampling with a cache give the same logits, and sizes are the official ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
import torch
from golden_infinity import FOLDER
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import refused
from tiny_infinity import DIM, LENGTHS, SCHEDULES, TEXT_ROWS, make_infinity, make_text, make_tokenizer, random_bits
from torch import Tensor

import nextscale as ns
from nextscale.official.infinity import to_official
from nextscale.scales.aspect import TEMPLATES
from nextscale.transformer.cross_attention import pool_heads
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import SIZES, InfinityConfig

EXACT = 5e-6
few = settings(deadline=None, max_examples=10)

PARAMETERS = {
    "layer12": 125_185_696,
    "layer16": 361_633_792,
    "layer24": 940_944_832,
    "layer32": 2_256_694_912,
    "layer40": 4_716_421_888,
    "layer48": 8_767_198_528,
    "2b": 2_204_564_032,
    "8b": 8_375_791_824,
    "20b": 19_952_199_784,
}
HIDDEN = {
    "layer12": 3072,
    "layer16": 4608,
    "layer24": 6144,
    "layer32": 8192,
    "layer40": 10752,
    "layer48": 13312,
    "2b": 8192,
    "8b": 14336,
    "20b": 18432,
}


@pytest.fixture(params=SCHEDULES)
def schedule(request) -> ns.ScaleSchedule:
    return SCHEDULES[request.param]


@pytest.fixture(params=[0, 1, 2])
def model(request) -> Iterator[Infinity]:
    """In every mode of the rotary positions."""
    with torch.no_grad():
        yield make_infinity(rope=request.param)


def random_inputs(schedule: ns.ScaleSchedule, batch: int = 2, bits: int = DIM) -> Tensor:
    length = schedule.num_tokens - schedule.tokens_per_scale[0]
    return torch.randn(batch, length, bits, generator=torch.Generator().manual_seed(0))


def scale_by_scale(model: Infinity, text: ns.TextFeatures, inputs: Tensor, schedule: ns.ScaleSchedule) -> Tensor:
    condition, cache, logits = model.condition(text), model.make_cache(schedule, len(text)), []
    start = schedule.tokens_per_scale[0]
    for visit, part in zip(schedule.visits, schedule.slices, strict=True):
        look = inputs[:, part.start - start : part.stop - start] if visit.index else None
        logits.append(model.logits(model.forward_scale(visit, look, condition, cache), visit))
    return torch.cat(logits, dim=1)


# ---- the sequence ------------------------------------------------------------------------------------------------


def test_the_cache_equals_the_mask(model, schedule):
    text, inputs = make_text(5, 2), random_inputs(schedule)
    logits = model(text, inputs, schedule)
    assert logits.shape == (2, schedule.num_tokens, DIM, 2) and logits.dtype == torch.float32
    assert logits.std() > 0.5
    torch.testing.assert_close(scale_by_scale(model, text, inputs, schedule), logits, atol=EXACT, rtol=0)


@given(
    st.sampled_from(sorted(TEMPLATES)), st.integers(1, 6), st.lists(st.integers(1, TEXT_ROWS), min_size=1, max_size=3)
)
@few
def test_the_cache_equals_the_mask_for_every_template_and_prompt(template, scales, lengths):
    schedule = ns.ScaleSchedule(TEMPLATES[template][:scales], template)
    with torch.no_grad():
        model, text, inputs = make_infinity(), make_text(*lengths), random_inputs(schedule, len(lengths))
        found = scale_by_scale(model, text, inputs, schedule)
        torch.testing.assert_close(found, model(text, inputs, schedule), atol=EXACT, rtol=0)


def test_tokens_of_four_bits_per_channel():
    model, schedule = make_infinity(patchify=True), SCHEDULES["wide"]
    inputs = make_tokenizer(patchify=True).teacher_forcing_input(random_bits(schedule, bits=4 * DIM), schedule)
    text = make_text(5, 2)
    with torch.no_grad():
        logits = model(text, inputs, schedule)
        assert logits.shape == (2, schedule.num_tokens, 4 * DIM, 2)
        torch.testing.assert_close(scale_by_scale(model, text, inputs, schedule), logits, atol=EXACT, rtol=0)


def test_a_later_scale_cannot_change_an_earlier_one(model, schedule):
    text, inputs = make_text(5, 2), random_inputs(schedule)
    logits, start = model(text, inputs, schedule), schedule.tokens_per_scale[0]
    for part in schedule.slices[1:]:
        changed = inputs.clone()
        changed[:, part.start - start] += 1
        difference = (model(text, changed, schedule) - logits).abs().amax(dim=(0, 2, 3))
        assert not difference[: part.start].any()
        assert difference[part.start :].min() > 1e-6


def test_the_schedule_is_an_argument_and_that_of_the_configuration_the_default():
    model, text, schedule = make_infinity(), make_text(3), SCHEDULES["square"]
    inputs = random_inputs(schedule, 1)
    with torch.no_grad():
        assert torch.equal(model(text, inputs), model(text, inputs, schedule))


def test_one_image_of_two_budgets_has_the_same_coordinates():
    """The first scales of a template have the same logits whatever follows them."""
    model, text = make_infinity(), make_text(3)
    small, large = (ns.ScaleSchedule(TEMPLATES[1.5][:n], 1.5) for n in (4, 6))
    inputs = random_inputs(large, 1)
    with torch.no_grad():
        expected = model(text, inputs[:, : small.num_tokens - 1], small)
        torch.testing.assert_close(model(text, inputs, large)[:, : small.num_tokens], expected, atol=EXACT, rtol=0)
        other = ns.ScaleSchedule(small.sizes)  # without a template the last scale is the frame
        assert (model(text, inputs[:, : small.num_tokens - 1], other) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("sizes", [((1, 2), (2, 2)), ((2, 2),)])
def test_the_first_scale_is_one_token(sizes):
    schedule = ns.ScaleSchedule(sizes)
    words = "1x1", "{}x{}".format(*sizes[0])
    with refused(*words):
        InfinityConfig(schedule=schedule)
    with refused(*words):
        make_infinity()(make_text(3), random_inputs(schedule, 1), schedule)
    with refused(*words):
        list(ns.sample_scales(make_tokenizer(), make_infinity(), make_text(3), schedule=schedule))


def test_more_scales_than_level_embeddings():
    schedule, model = SCHEDULES["square"], make_infinity(levels=2, schedule=SCHEDULES["no template"])
    with refused("at most 2", 3):
        model(make_text(3), random_inputs(schedule, 1), schedule)
    with refused("at most 2", 3):
        list(ns.sample_scales(make_tokenizer(), model, make_text(3), schedule=schedule))


# ---- the text ----------------------------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_the_other_prompts(model, schedule):
    text, inputs = make_text(*LENGTHS), random_inputs(schedule, len(LENGTHS))
    logits = model(text, inputs, schedule)
    for i in range(len(text)):
        alone = model(text.select([i]), inputs[i : i + 1], schedule)
        torch.testing.assert_close(alone, logits[i : i + 1], atol=EXACT, rtol=0)
    others = ns.TextFeatures.of([text.split()[0], *make_text(7, 2, 9, seed=8).split()])
    torch.testing.assert_close(model(others, inputs, schedule)[0], logits[0], atol=EXACT, rtol=0)
    assert (model(others, inputs, schedule)[1:] - logits[1:]).abs().amax(dim=(1, 2, 3)).min() > 0.05


def test_every_token_of_a_prompt_matters():
    model, text, schedule = make_infinity(), make_text(6), SCHEDULES["wide"]
    inputs = random_inputs(schedule, 1)
    with torch.no_grad():
        logits = model(text, inputs, schedule)
        for i in range(6):
            changed = text.features.clone()
            changed[i] += 1
            assert (model(ns.TextFeatures(changed, [6]), inputs, schedule) - logits).abs().max() > 0.01
        assert (model(make_text(5), inputs, schedule) - logits).abs().max() > 0.01


def test_the_norm_of_a_text_makes_its_scale_irrelevant():
    model, text, schedule = make_infinity(), make_text(6, 3), SCHEDULES["wide"]
    inputs = random_inputs(schedule)
    with torch.no_grad():
        louder = model(ns.TextFeatures(8 * text.features, text.lengths), inputs, schedule)
        torch.testing.assert_close(louder, model(text, inputs, schedule), atol=1e-4, rtol=0)


# ---- training ----------------------------------------------------------------------------------------------------


def test_training_mode_changes_nothing(model):
    text, inputs = make_text(5, 2), random_inputs(model.schedule)
    logits = model(text, inputs)
    try:
        assert torch.equal(model.train()(text, inputs), logits)
    finally:
        model.eval()


def test_dropped_paths_leave_the_text():
    """Drop path removes self-attention and MLP. Cross-attention has none."""
    model, text, schedule = make_infinity(), make_text(5, 2), SCHEDULES["square"]
    inputs, depth = random_inputs(schedule), model.config.depth
    with torch.no_grad():
        logits = model(text, inputs)
        assert torch.equal(model(text, inputs, paths=torch.ones(depth, 2, 2)), logits)
        dropped = torch.ones(depth, 2, 2)
        dropped[:, :, 0] = 0
        found = model(text, inputs, paths=dropped)
        assert torch.equal(found[1], logits[1])
        changed = inputs.clone()
        changed[:, 0] += 1
        others = [i for i in range(schedule.num_tokens) if i != 1]
        assert torch.equal(model(text, changed, paths=dropped)[0, others], found[0, others])
        assert (model(make_text(5, 2, seed=1), inputs, paths=dropped)[0] - found[0]).abs().max() > 0.05


def test_every_weight_learns():
    model, schedule = make_infinity(), SCHEDULES["square"]
    text = model.conditioner.drop(make_text(TEXT_ROWS, 2), torch.tensor([True, False]))
    parameters = dict(model.named_parameters())
    loss = model(text, random_inputs(schedule)).square().mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    assert not [name for name, g in zip(parameters, gradients, strict=True) if g is None or not g.any()]


def test_gradients_have_the_layout_of_their_parameters():
    """Otherwise DistributedDataParallel warns, and copies them."""
    pool = copy.deepcopy(make_infinity().text_pool)
    pool(make_text(TEXT_ROWS, 2).features, (TEXT_ROWS, 2)).sum().backward()
    for parameter in pool.parameters():
        assert parameter.grad is not None and parameter.grad.stride() == parameter.stride()


def test_bfloat16_logits_are_float32_and_near(model):
    text, inputs = make_text(5, 2), random_inputs(model.schedule)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(text, inputs)
    assert logits.dtype == torch.float32
    exact = model(text, inputs)
    assert 0 < (logits - exact).square().mean().sqrt() < 0.03 * exact.std()


# ---- sizes and weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETERS)
def test_official_sizes(name):
    config = InfinityConfig.named(name)
    assert config.hidden == HIDDEN[name]
    with torch.device("meta"):
        model = Infinity(config)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_every_named_size_is_an_official_one():
    assert set(SIZES) == set(PARAMETERS)
    with refused("'3b'", "layer12", "2b"):
        InfinityConfig.named("3b")
    assert InfinityConfig.named("2b", bits=64).bits == 64


@pytest.mark.parametrize(("width", "hidden"), [(2080, 8192), (2016, 8192), (96, 512), (160, 512), (64, 256)])
def test_the_width_of_the_mlp_is_rounded_half_to_even(width, hidden):
    """4 * 2080 / 256 is 32.5, and 4 * 2016 / 256 is 31.5."""
    assert InfinityConfig(width=width, heads=4, pool_heads=4).hidden == hidden


def test_heads_of_the_pool():
    assert [pool_heads(2048, width) for width in (768, 2048, 3584, 4096, 4608)] == [16, 16, 16, 16, 32]
    for name, head in (("2b", 2048 // 16), ("8b", 3584 // 16), ("layer12", 768 // 16)):
        config = InfinityConfig.named(name)
        assert config.width // config.pool_heads == head


def test_initialisation():
    """The statistics of each tensor are those of the official training script."""
    info = json.loads((FOLDER / "initialisation.json").read_text())
    sizes = {name: info[name] for name in ("width", "depth", "text_width", "text_rows")}
    model = Infinity(InfinityConfig(heads=4, chunks=2, **sizes)).init_weights(torch.Generator().manual_seed(0))
    _, state = to_official(make_tokenizer(), model)
    offsets = state.pop("block_chunks.0.module.1.ada_gss")
    state["block_chunks.0.module.1.ada_gss[gamma]"] = offsets[:, :, :2]
    state["block_chunks.0.module.1.ada_gss[scale, shift]"] = offsets[:, :, 2:]
    for name, (mean, std) in info["mean_and_std"].items():
        # five standard deviations of the difference of two such random tensors
        spread = 5 / state[name].numel() ** 0.5
        assert state[name].std().item() == pytest.approx(std, rel=spread, abs=1e-9), name
        assert state[name].mean().item() == pytest.approx(mean, rel=1e-6, abs=1.5 * spread * std), name
    learned = model.unconditional_text.detach()
    torch.testing.assert_close(learned[0, :8], torch.tensor(info["cfg_uncond_first_row_first_8"]), atol=1e-7, rtol=0)
    torch.testing.assert_close(learned[-1, -4:], torch.tensor(info["cfg_uncond_last_row_last_4"]), atol=1e-7, rtol=0)


def test_an_untrained_model_knows_nothing():
    """The loss is ln 2 per bit, and bits are right by chance."""
    schedule = SCHEDULES["square"]
    model = Infinity(make_infinity().config).init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(make_text(5, 2), random_inputs(schedule))
    loss = -logits.log_softmax(dim=-1)[..., 0].mean()
    assert loss.item() == pytest.approx(0.693, abs=0.01)


def test_initialisation_follows_its_generator():
    config = make_infinity().config
    first, second = (Infinity(config).init_weights(torch.Generator().manual_seed(4)) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_folder_and_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Infinity.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    text, inputs = make_text(5, 2), random_inputs(model.schedule)
    assert torch.equal(loaded(text, inputs), model(text, inputs))


@pytest.mark.parametrize("field", ["depth", "width", "heads", "bits", "text_width", "text_rows", "levels", "chunks"])
def test_impossible_configurations(field):
    with refused(field, 0):
        InfinityConfig(**{field: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 100, "heads": 16}, (100, 16)),
        ({"width": 96, "heads": 16, "pool_heads": 16}, ("multiple of 4", 6)),
        ({"depth": 10, "chunks": 4}, (10, 4)),
        ({"rope": 3}, (3, "0, 1, 2")),
        ({"pool_heads": 3}, (2048, 3)),
    ],
)
def test_sizes_that_do_not_fit_together(fields, words):
    with refused(*words):
        InfinityConfig(**fields)
