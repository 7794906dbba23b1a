"""The sampling loop over scales."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import CLASSES, CODES, SCHEDULES, Models, make_tokenizer, make_var, random_tokens, refused, same

import nextscale as ns

VARIANTS = ({}, {"shared_adaln": True}, {"l2_norm": False})
LABELS = torch.tensor([0, 3])


@pytest.fixture
def seen(monkeypatch) -> list[tuple[torch.Tensor | None, int]]:
    """(inputs, number of sequences) of every call of the transformer."""
    calls, forward_scale = [], ns.VAR.forward_scale

    def spy(self, k, inputs, condition, cache):
        calls.append((inputs, len(condition.embedding)))
        return forward_scale(self, k, inputs, condition, cache)

    monkeypatch.setattr(ns.VAR, "forward_scale", spy)
    return calls


def test_shapes(models: Models):
    result = ns.sample(*models, LABELS)
    schedule = models[0].schedule
    assert result.images.shape == (2, 3, *models[0].config.image_size)
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert [t.shape for t in result.tokens] == [(2, n) for n in schedule.tokens_per_scale]
    assert torch.equal(result.labels, LABELS)


def test_the_image_is_the_decoded_tokens(models: Models):
    result = ns.sample(*models, LABELS)
    torch.testing.assert_close(result.images, models[0].decode(result.tokens) / 2 + 0.5, atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("cfg", [0, 1.5, 4])
def test_sampling_sees_what_teacher_forcing_sees(schedule, variant, cfg, seen):
    """Inputs and guided logits of every scale are those of the whole sequence behind a mask."""
    tokenizer, model = make_tokenizer(schedule), make_var(schedule, **variant)
    steps = list(ns.sample_scales(tokenizer, model, LABELS, cfg=cfg))
    inputs = tokenizer.teacher_forcing_input([step.tokens for step in steps])
    looks = [inputs[:, :0], *(look[: len(LABELS)] for look, _ in seen[1:])]
    torch.testing.assert_close(torch.cat(looks, dim=1), inputs, atol=1e-6, rtol=0)
    with torch.no_grad():
        conditional = model(LABELS, inputs)
        unconditional = model(torch.full_like(LABELS, CLASSES), inputs)
    for step, part in zip(steps, schedule.slices, strict=True):
        t = cfg * schedule.position(step.index)
        expected = (1 + t) * conditional[:, part] - t * unconditional[:, part]
        torch.testing.assert_close(step.logits, expected, atol=1e-4, rtol=0)


def test_given_tokens_are_seen_like_teacher_forcing(models: Models, schedule, seen):
    tokens = random_tokens(schedule)
    edit = ns.TokenEdit(tokens, torch.ones(schedule.final_size))
    steps = list(ns.sample_scales(*models, LABELS, cfg=0, edit=edit))
    inputs = models[0].teacher_forcing_input(tokens)
    looks = [inputs[:, :0], *(look for look, _ in seen[1:])]
    assert torch.equal(torch.cat(looks, dim=1), inputs)
    logits = torch.cat([step.logits for step in steps], dim=1)
    torch.testing.assert_close(logits, models[1](LABELS, inputs), atol=1e-5, rtol=0)


def test_streaming_equals_the_call(models: Models):
    steps = list(ns.sample_scales(*models, LABELS, seed=4))
    result = ns.sample(*models, LABELS, seed=4)
    assert same([step.tokens for step in steps], result.tokens)
    assert torch.equal(steps[-1].image(), result.images)
    assert [step.size for step in steps] == list(models[0].schedule.sizes)
    assert [step.index for step in steps] == list(range(len(steps)))


def test_looking_at_the_image_on_the_way_changes_nothing(models: Models):
    steps = []
    for step in ns.sample_scales(*models, LABELS, more_smooth=True):
        step.image()
        steps.append(step)
    assert torch.equal(steps[-1].image(), ns.sample(*models, LABELS, more_smooth=True).images)


def test_two_calls_at_once_do_not_meet(models: Models):
    one, two = (ns.sample_scales(*models, LABELS, seed=seed) for seed in (1, 2))
    pairs = list(zip(one, two, strict=True))
    assert same([step.tokens for step, _ in pairs], ns.sample(*models, LABELS, seed=1).tokens)
    assert same([step.tokens for _, step in pairs], ns.sample(*models, LABELS, seed=2).tokens)


@pytest.mark.parametrize("cfg", [0, 3])
def test_top_k_1_is_greedy(models: Models, cfg):
    for step in ns.sample_scales(*models, LABELS, cfg=cfg, top_k=1):
        assert torch.equal(step.tokens, step.logits.argmax(dim=-1))


@pytest.mark.parametrize("top_k", [CODES, CODES + 1, 900])
def test_top_k_of_all_is_off(models: Models, top_k):
    off = ns.sample(*models, LABELS, top_k=0, top_p=0)
    assert same(ns.sample(*models, LABELS, top_k=top_k, top_p=0).tokens, off.tokens)


def test_a_tiny_top_p_is_greedy(models: Models):
    for step in ns.sample_scales(*models, LABELS, top_k=0, top_p=1e-9):
        assert torch.equal(step.tokens, step.logits.argmax(dim=-1))


def test_a_temperature_of_clips_is_for_videos(models: Models):
    with refused("clip_temperature is for video models"):
        ns.sample(*models, [1], clip_temperature=0.5)


def test_without_guidance_the_unconditional_half_does_not_run(models: Models, seen):
    ns.sample(*models, LABELS, cfg=0)
    assert [count for _, count in seen] == [2] * models[0].schedule.num_scales
    seen.clear()
    ns.sample(*models, LABELS, cfg=1.5)
    assert [count for _, count in seen] == [4] * models[0].schedule.num_scales


def test_cfg_0_is_no_guidance(models: Models):
    """The smallest guidance, which does run the unconditional half, draws the same."""
    none, almost_none = (ns.sample(*models, LABELS, cfg=cfg) for cfg in (0, 1e-12))
    assert same(none.tokens, almost_none.tokens)
    torch.testing.assert_close(none.images, almost_none.images, atol=1e-5, rtol=0)


def test_guidance_and_labels_matter(models: Models):
    logits = [
        next(iter(ns.sample_scales(*models, labels, cfg=cfg, num_images=2))).logits
        for labels, cfg in ((LABELS, 0), (LABELS + 1, 0), ("unconditional", 0))
    ]
    assert (logits[0] - logits[1]).abs().max() > 0.1 and (logits[0] - logits[2]).abs().max() > 0.1
    last = [list(ns.sample_scales(*models, LABELS, cfg=cfg, top_k=1))[-1].logits for cfg in (0, 4)]
    assert (last[0] - last[1]).abs().max() > 0.1


@pytest.mark.parametrize("more_smooth", [False, True])
@pytest.mark.parametrize("cfg", [0, 1.5])
def test_seeds_of_images_do_not_depend_on_the_batch(models: Models, cfg, more_smooth):
    labels, seeds = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1]), [3, 1, 4, 1, 5, 9, 2, 6]
    batch = ns.sample(*models, labels, cfg=cfg, seed=seeds, more_smooth=more_smooth)
    for i in (0, 3, 7):
        alone = ns.sample(*models, labels[i : i + 1], cfg=cfg, seed=seeds[i : i + 1], more_smooth=more_smooth)
        assert same(alone.tokens, [t[i : i + 1] for t in batch.tokens])
        torch.testing.assert_close(alone.images, batch.images[i : i + 1], atol=1e-4, rtol=0)


def test_random_labels_of_images_do_not_depend_on_the_batch(models: Models):
    batch = ns.sample(*models, None, num_images=4, seed=[8, 7, 6, 5])
    alone = ns.sample(*models, None, num_images=1, seed=[6])
    assert torch.equal(alone.labels, batch.labels[2:3])
    assert same(alone.tokens, [t[2:3] for t in batch.tokens])


def test_one_seed_for_the_call_is_that_image_s_seed(models: Models):
    call, image = (ns.sample(*models, LABELS[:1], seed=seed) for seed in (7, [7]))
    assert same(call.tokens, image.tokens)
    assert torch.equal(call.images, image.images)


def test_the_seed_alone_decides(models: Models):
    first = ns.sample(*models, None, num_images=3, seed=1)
    torch.manual_seed(99)
    again, other = (ns.sample(*models, None, num_images=3, seed=seed) for seed in (1, 2))
    assert torch.equal(first.labels, again.labels) and same(first.tokens, again.tokens)
    assert not same(first.tokens, other.tokens)


def test_sampling_leaves_the_global_generator_alone(models: Models):
    before = torch.get_rng_state()
    ns.sample(*models, None, num_images=1, more_smooth=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_class_is_unconditional(models: Models):
    named = ns.sample(*models, "unconditional", num_images=2)
    numbered = ns.sample(*models, [CLASSES, CLASSES])
    assert torch.equal(named.labels, numbered.labels)
    assert same(named.tokens, numbered.tokens)


def test_no_labels_means_classes_at_random(models: Models):
    labels = ns.sample(*models, None, num_images=64, cfg=0).labels
    assert set(labels.tolist()) == set(range(CLASSES))


def test_smoothing_mixes_codes(models: Models):
    plain, smooth = (list(ns.sample_scales(*models, LABELS, more_smooth=more)) for more in (False, True))
    assert torch.equal(plain[0].tokens, smooth[0].tokens)
    assert not torch.equal(plain[0].canvas, smooth[0].canvas)


@pytest.mark.parametrize("cfg", [float("nan"), float("inf"), -float("inf")])
def test_cfg_is_finite(square: Models, cfg):
    with refused("cfg", cfg, "finite"):
        ns.sample(*square, LABELS, cfg=cfg)


@pytest.mark.parametrize("top_p", [1.5, -0.1, float("nan")])
def test_top_p_is_a_probability(square: Models, top_p):
    with refused("top-p", top_p, 0, 1):
        ns.sample(*square, LABELS, top_p=top_p)


def test_top_k_is_not_negative(square: Models):
    with refused("top-k", -1, 0):
        ns.sample(*square, LABELS, top_k=-1)


@pytest.mark.parametrize("label", [-1, CLASSES + 1])
def test_labels_out_of_range(square: Models, label):
    with refused(f"label {label}", f"0..{CLASSES - 1}", CLASSES):
        ns.sample(*square, torch.tensor([0, label]))


@pytest.mark.parametrize("labels", [[0.5], [[1, 2]], [True], torch.tensor([0.0])])
def test_labels_are_integers(square: Models, labels):
    with refused("labels are a sequence of integers"):
        ns.sample(*square, labels)


def test_words_are_no_labels(square: Models):
    with refused("'dog'", "unconditional"):
        ns.sample(*square, "dog", num_images=1)


@pytest.mark.parametrize("labels", [None, "unconditional"])
@pytest.mark.parametrize("count", [None, 0, -1])
def test_without_labels_the_number_of_images_is_needed(square: Models, labels, count):
    with refused("num_images", "at least 1", count):
        ns.sample(*square, labels, num_images=count)


def test_labels_and_number_of_images_agree(square: Models):
    with refused("2 labels", "3 images"):
        ns.sample(*square, LABELS, num_images=3)
    with refused("at least one label"):
        ns.sample(*square, [])


def test_wrong_number_of_seeds(square: Models):
    with refused("each of the 2 images", "got 3"):
        ns.sample(*square, LABELS, seed=[1, 2, 3])


@pytest.mark.parametrize("option", [{"cfg": float("nan")}, {"seed": [1]}, {"labels": [99, 0]}])
def test_streaming_refuses_at_the_call(square: Models, option):
    """Not at the first step, when a caller may have begun to write."""
    with refused():
        ns.sample_scales(*square, **({"labels": LABELS} | option))


@pytest.mark.parametrize(
    ("field", "ours", "theirs"),
    [("codebook_size", CODES, 30), ("code_dim", 8, 4), ("schedule", "1 2 3 4", "1x2 2x3 3x5")],
)
def test_models_that_do_not_fit_together(square: Models, field, ours, theirs):
    if field == "schedule":
        other = make_tokenizer(SCHEDULES["rectangular"])
    else:
        other = make_tokenizer(SCHEDULES["square"], **{field: theirs})
    with refused(field, ours, theirs):
        ns.sample(other, square[1], LABELS)


def test_weights_that_are_not_numbers(square: Models):
    tokenizer, model = square
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)
    with refused("not finite"):
        ns.sample(tokenizer, broken, LABELS)


@pytest.mark.parametrize("arguments", [{"top_k": 2.0}, {"top_p": None}, {"cfg": 1e39}, {"cfg": "4"}])
def test_settings_of_another_kind(square: Models, arguments):
    with refused(*(name.replace("_", "-") for name in arguments), *arguments.values()):
        ns.sample(*square, LABELS, **arguments)


@pytest.mark.parametrize("labels", [["hat"], [None, 1], [[0], [1, 2]], 3, "dress", [0.5]])
def test_labels_of_another_kind(square: Models, labels):
    with refused("labels"):
        ns.sample(*square, labels)


def test_labels_from_numpy(square: Models):
    assert same(ns.sample(*square, LABELS.numpy()).tokens, ns.sample(*square, LABELS).tokens)
