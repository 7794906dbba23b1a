"""Sampling bits from text: per-image seeds, where guidance acts, and what does not fit together."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import refused, same
from tiny_infinity import (
    DIM,
    LENGTHS,
    SCHEDULES,
    TEXT_ROWS,
    make_infinity,
    make_text,
    make_tokenizer,
)

import nextscale as ns
from nextscale.sampling.filters import top_k_top_p_filter
from nextscale.transformer.infinity import Infinity

few = settings(deadline=None, max_examples=10)
SEEDS = [3, 1, 4, 1]
WIDE = SCHEDULES["wide"]

Models = tuple[ns.ImageTokenizer, Infinity]


@pytest.fixture(params=[False, True], ids=["plain", "patchify"])
def models(request) -> Models:
    return make_tokenizer(request.param), make_infinity(request.param)


@pytest.fixture
def plain() -> Models:
    return make_tokenizer(), make_infinity()


@pytest.fixture(params=SCHEDULES)
def schedule(request) -> ns.ScaleSchedule:
    return SCHEDULES[request.param]


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor | None, int]]:
    """(inputs, number of sequences) of every call of the transformer."""
    calls, forward_scale = [], Infinity.forward_scale

    def spy(self, visit, inputs, condition, cache, after_block=None):
        calls.append((inputs, len(condition.embedding)))
        return forward_scale(self, visit, inputs, condition, cache, after_block)

    monkeypatch.setattr(Infinity, "forward_scale", spy)
    return calls


# ---- results -----------------------------------------------------------------------------------------------------


def test_shapes(models: Models, schedule):
    result = ns.sample(*models, make_text(5, 2), schedule=schedule)
    h, w = schedule.final_size
    assert result.images.shape == (2, 3, 4 * h, 4 * w)
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert [t.shape for t in result.tokens] == [(2, n, models[1].config.bits) for n in schedule.tokens_per_scale]
    assert all(t.dtype == torch.bool for t in result.tokens)
    decoded = models[0].decode(result.tokens, schedule)
    torch.testing.assert_close(result.images, decoded / 2 + 0.5, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cfg", [1, 3.0, 0.0])
def test_sampling_sees_what_teacher_forcing_sees(models: Models, schedule, cfg, seen):
    """Inputs and guided logits of every scale are those of the whole sequence behind a mask."""
    (tokenizer, model), text = models, make_text(5, 2)
    steps = list(ns.sample_scales(tokenizer, model, text, schedule=schedule, cfg=cfg))
    inputs = tokenizer.teacher_forcing_input([step.tokens for step in steps], schedule)
    looks = [inputs[:, :0], *(look[:2] for look, _ in seen[1:])]
    torch.testing.assert_close(torch.cat(looks, dim=1), inputs, atol=1e-6, rtol=0)
    with torch.no_grad():
        conditional = model(text, inputs, schedule)
        unconditional = model(model.conditioner.unconditional(text), inputs, schedule)
    for step, part in zip(steps, schedule.slices, strict=True):
        expected = cfg * conditional[:, part] + (1 - cfg) * unconditional[:, part]
        torch.testing.assert_close(step.logits, expected, atol=3e-5, rtol=0)


def test_text_and_guidance_matter(plain: Models):
    first = [
        next(iter(ns.sample_scales(*plain, make_text(4, seed=s), cfg=c))).logits for s, c in ((0, 1), (1, 1), (0, 3))
    ]
    assert (first[0] - first[1]).abs().max() > 0.1 and (first[0] - first[2]).abs().max() > 0.1


def test_the_seed_alone_decides(plain: Models):
    text = make_text(5, 2)
    first = ns.sample(*plain, text, seed=1)
    torch.manual_seed(99)
    again, other = (ns.sample(*plain, text, seed=seed) for seed in (1, 2))
    assert same(first.tokens, again.tokens) and torch.equal(first.images, again.images)
    assert not same(first.tokens, other.tokens)


def test_one_prompt_for_several_images(plain: Models):
    many = ns.sample(*plain, make_text(3), num_images=4, seed=SEEDS)
    assert many.labels.lengths == (3, 3, 3, 3)
    assert torch.equal(many.images[1], many.images[3])  # the seeds are equal
    assert not torch.equal(many.images[0], many.images[1])
    with refused("2 prompts", "3 images"):
        ns.sample(*plain, make_text(3, 4), num_images=3)


# ---- one seed per image ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1, 3.0, (1.0, 3.0, 1.0)])
@pytest.mark.parametrize("negative", [False, True])
def test_an_image_alone_equals_the_one_in_a_batch(models: Models, cfg, negative):
    """With prompts of other lengths around it. The bits are equal, one by one."""
    text, other = make_text(*LENGTHS), make_text(2, 5, 9, 1, seed=4)
    options = {"cfg": cfg, "temperature": 0.8, "top_p": 0.97, "schedule": WIDE}
    batch = ns.sample(*models, text, seed=SEEDS, **options, **({"negative": other} if negative else {}))
    for i in range(4):
        options["negative"] = other.select([i]) if negative else None
        alone = ns.sample(*models, text.select([i]), seed=[SEEDS[i]], **options)
        assert same(alone.tokens, [t[i : i + 1] for t in batch.tokens])
        torch.testing.assert_close(alone.images, batch.images[i : i + 1], atol=1e-5, rtol=0)


@given(st.permutations(range(4)), st.lists(st.integers(1, TEXT_ROWS), min_size=4, max_size=4))
@few
def test_the_order_of_a_batch_does_not_matter(order, lengths):
    models, text = (make_tokenizer(), make_infinity()), make_text(*lengths)
    batch = ns.sample(*models, text, seed=SEEDS, cfg=2.0, temperature=0.9)
    moved = ns.sample(*models, text.select(order), seed=[SEEDS[i] for i in order], cfg=2.0, temperature=0.9)
    assert same(moved.tokens, [t[list(order)] for t in batch.tokens])


def test_the_seed_of_a_single_image(plain: Models):
    call, image = (ns.sample(*plain, make_text(4), seed=seed) for seed in (7, [7]))
    assert same(call.tokens, image.tokens) and torch.equal(call.images, image.images)


def test_wrong_number_of_seeds(plain: Models):
    with refused("each of the 2 images", "got 3"):
        ns.sample(*plain, make_text(3, 4), seed=[1, 2, 3])


# ---- guidance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "guided"),
    [
        ({"cfg": 1}, False),
        ({"cfg": 1.0}, False),
        ({"cfg": [1, 1.0, 1]}, False),
        ({"cfg": [1, 1, 2], "stop_after": 2}, False),
        ({"cfg": 1, "negative": True}, False),
        ({"cfg": 1, "guidance_blocks": [-1]}, False),
        ({"cfg": 3.0}, True),
        ({"cfg": 0.0}, True),
        ({"cfg": [1, 1, 2]}, True),
    ],
)
def test_no_unconditional_half_without_guidance(plain: Models, seen, options, guided):
    if "negative" in options:
        options = options | {"negative": make_text(2, 1, seed=5)}
    ns.sample(*plain, make_text(5, 2), **options)
    assert {count for _, count in seen} == ({4} if guided else {2})


def test_cfg_1_is_no_guidance(plain: Models):
    """The smallest guidance, which does run the unconditional half, samples the same."""
    none, almost_none = (ns.sample(*plain, make_text(5, 2), cfg=cfg) for cfg in (1, 1 + 1e-12))
    assert same(none.tokens, almost_none.tokens)


def test_cfg_0_is_the_text_in_the_negative_prompt(plain: Models):
    text, other = make_text(5, 2), make_text(3, 7, seed=5)
    only = ns.sample(*plain, other, cfg=1)
    assert same(ns.sample(*plain, text, cfg=0, negative=other).tokens, only.tokens)
    learned = plain[1].conditioner.unconditional(text)
    assert same(ns.sample(*plain, text, cfg=0).tokens, ns.sample(*plain, learned, cfg=1).tokens)


def test_a_single_negative_prompt_is_for_all_images(plain: Models):
    text, other = make_text(5, 2), make_text(3, seed=5)
    one, each = (ns.sample(*plain, text, cfg=3, negative=n) for n in (other, other.select([0, 0])))
    assert same(one.tokens, each.tokens)


def test_guidance_after_a_block(plain: Models):
    """After the last guided block both halves are the same, so guiding the logits again changes nothing."""
    text, depth = make_text(5, 2), plain[1].config.depth
    logits = {
        blocks: next(iter(ns.sample_scales(*plain, text, cfg=3.0, guidance_blocks=blocks))).logits
        for blocks in ((), (0,), (-1,), (1 - depth,), (0, -1), (-1, -2))
    }
    assert torch.equal(logits[()], logits[(0,)])
    distinct = [logits[key] for key in ((0,), (-1,), (1 - depth,), (0, -1), (-1, -2))]
    for i, a in enumerate(distinct):
        for b in distinct[:i]:
            assert (a - b).abs().max() > 1e-3


def test_guidance_after_the_last_block_is_that_of_its_features(plain: Models):
    model, text = plain[1], make_text(5, 2)
    with torch.no_grad():
        both = model.conditioner.join(text, model.conditioner.unconditional(text))
        condition, visit = model.condition(both), model.schedule.visits[0]
        after = []
        model.forward_scale(
            visit, None, condition, model.make_cache(model.schedule, 4), lambda x, i: after.append(x) or x
        )
        first, second = after[-1].chunk(2)
        x = 3.0 * first - 2.0 * second
        expected = model.logits(model.features(torch.cat((x, x)), condition))[:2]
    found = next(iter(ns.sample_scales(*plain, text, cfg=3.0, guidance_blocks=(-1,)))).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("blocks", [[1], [-4], [0, -9], [2, 0]])
def test_guidance_blocks_that_do_not_exist(plain: Models, blocks):
    wrong = next(b for b in blocks if not -4 < b <= 0)
    with refused("guidance_blocks", "-1 to -3", f"not {wrong}"):
        ns.sample_scales(*plain, make_text(4), guidance_blocks=blocks)


@pytest.mark.parametrize("blocks", [["-1"], [0.5], [None], [True], -1, "0"])
def test_guidance_blocks_of_another_kind(plain: Models, blocks):
    with refused("guidance_blocks"):
        ns.sample_scales(*plain, make_text(4), guidance_blocks=blocks)


# ---- filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("probability", "kept"), [(0.02, False), (0.03, False), (0.031, True), (0.2, True)])
@pytest.mark.parametrize("bit", [0, 1])
def test_top_p_of_a_bit(probability, kept, bit):
    """The less likely value is removed if and only if its probability is at most 1 - p."""
    logits = torch.tensor([1 - probability, probability]).log()
    filtered = top_k_top_p_filter(logits.roll(bit), 900, 0.97)
    assert filtered.isfinite().tolist() == ([True, kept] if bit == 0 else [kept, True])


@pytest.mark.parametrize("top_k", [2, 3, 900])
def test_top_k_of_two_or_more_values_is_off(plain: Models, top_k):
    text = make_text(5, 2)
    off = ns.sample(*plain, text, top_k=0, top_p=0)
    assert same(ns.sample(*plain, text, top_k=top_k, top_p=0).tokens, off.tokens)
    for step in ns.sample_scales(*plain, text, top_k=1):
        assert torch.equal(step.tokens, step.logits.argmax(dim=-1).bool())


def test_smoothing_mixes_codes(plain: Models):
    plainly, smoothly = (list(ns.sample_scales(*plain, make_text(5, 2), more_smooth=more)) for more in (False, True))
    assert torch.equal(plainly[0].tokens, smoothly[0].tokens)
    assert not torch.equal(plainly[0].canvas, smoothly[0].canvas)


def test_a_logits_processor_decides_bits(plain: Models):
    def ones(logits: torch.Tensor, visit) -> torch.Tensor:
        return logits.index_fill(-1, torch.tensor([0]), -torch.inf)

    assert all(t.all() for t in ns.sample(*plain, make_text(5, 2), logits_processor=ones).tokens)


# ---- what does not fit together ----------------------------------------------------------------------------------


def test_a_tokenizer_of_another_number_of_bits(plain: Models):
    with refused("token_dim", DIM, 8):
        ns.sample_scales(make_tokenizer(code_dim=8), plain[1], make_text(4))
    with refused("token_dim", DIM, 4 * DIM):
        ns.sample_scales(make_tokenizer(True), plain[1], make_text(4))


def test_families_do_not_mix(plain: Models):
    square = tiny.SCHEDULES["square"]
    with refused("quantizer", "bits", "codebook"):
        ns.sample_scales(tiny.make_tokenizer(square), plain[1], make_text(4))
    with refused("quantizer", "bits", "codebook"):
        ns.sample_scales(plain[0], tiny.make_var(square), [0])


@pytest.mark.parametrize("labels", [[0], None, "unconditional", "a fox", torch.zeros(3, 32), torch.tensor([0])])
def test_what_is_no_text(plain: Models, labels):
    with refused("TextFeatures"):
        ns.sample_scales(*plain, labels, num_images=1)


def test_prompts_that_the_model_does_not_take(plain: Models):
    with refused(TEXT_ROWS, 13):
        ns.sample_scales(*plain, make_text(3, 13))
    with refused(32, 16):
        ns.sample_scales(*plain, make_text(3, width=16))
    with refused(TEXT_ROWS, 13):
        ns.sample_scales(*plain, make_text(3), negative=make_text(13))
    with refused("2 prompts", "3"):
        ns.sample_scales(*plain, make_text(3, 4, 5), negative=make_text(3, 4))


def test_var_takes_no_other_schedule_and_no_guidance_inside():
    square = tiny.SCHEDULES["square"]
    models = tiny.make_tokenizer(square), tiny.make_var(square)
    with refused("1 2 3 4", "1x2 2x3 3x5"):
        ns.sample_scales(*models, [0], schedule=tiny.SCHEDULES["rectangular"])
    with refused("VAR", "guidance_blocks"):
        ns.sample_scales(*models, [0], guidance_blocks=[-1])
    assert same(ns.sample(*models, [0], schedule=square, guidance_blocks=[0]).tokens, ns.sample(*models, [0]).tokens)


def test_var_takes_lists_and_stops_early_as_well():
    square = tiny.SCHEDULES["square"]
    models = tiny.make_tokenizer(square), tiny.make_var(square)
    with refused("cfg", "4 scales", "got 3"):
        ns.sample_scales(*models, [0], cfg=[1.0, 2.0, 3.0])
    steps = list(ns.sample_scales(*models, [0], stop_after=2))
    assert same([s.tokens for s in steps], ns.sample(*models, [0]).tokens[:2])
