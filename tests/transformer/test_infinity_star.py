from __future__ import annotations

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_infinity_star import Golden, read
from tiny import refused
from tiny_star import make_model, make_schedule, make_text, make_tokenizer

import nextscale as ns
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.training.visit_choice import one_of_each
from nextscale.transformer.cache import cache_length, plan_cache
from nextscale.transformer.spacetime_rope import text_rotations

GREEDY = {"temperature": 1.0, "top_k": 0, "top_p": 0.0}


def random_schedule(seed: int) -> SpacetimeSchedule:
    rng = random.Random(seed)
    sizes = sorted((rng.randint(1, 4), rng.randint(1, 4)) for _ in range(rng.randint(1, 4)))
    image, clip = (tuple(rng.randint(1, 3) for _ in sizes) for _ in range(2))
    return SpacetimeSchedule(tuple(sizes), rng.randint(1, 9), image, clip, rng.randint(0, 9), rng.randint(1, 3))


@pytest.mark.parametrize("seed", range(30))
def test_the_cache_holds_what_later_visits_see_and_no_more(seed):
    visits = random_schedule(seed).visits
    lengths = [visit.num_tokens for visit in visits]
    plans = plan_cache(visits, lengths)
    needed = [0]
    for k, (visit, plan) in enumerate(zip(visits, plans, strict=True)):
        later = {j for other in visits[k + 1 :] for j in other.sees}
        assert (plan.write is not None) == (k in later)
        assert sum(end - start for start, end in plan.read) == sum(
            lengths[j] for j in {*visit.sees, k} & {*range(k), *later}
        )
        needed.append(sum(lengths[j] for j in range(k + 1) if j in later or j in visit.sees))
    assert cache_length(plans) >= max(needed)
    assert cache_length(plans) <= 3 * max(needed)  # ranges of different lengths leave gaps


def test_a_video_does_not_depend_on_its_batch():
    tokenizer, model = make_tokenizer(), make_model()
    together = ns.sample(tokenizer, model, make_text(5, 7), seed=[3, 4], cfg=3.0, **GREEDY)
    assert together.videos.shape == (2, 3, 13, 32, 48)
    for i, (length, seed) in enumerate(((5, 3), (7, 4))):
        text = make_text(5, 7).select([i])
        assert text.lengths == (length,)
        alone = ns.sample(tokenizer, model, text, seed=[seed], cfg=3.0, **GREEDY)
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone.tokens, together.tokens, strict=True))


def test_an_image_is_a_video_of_one_frame():
    tokenizer, model = make_tokenizer(), make_model()
    image = ns.sample(tokenizer, model, make_text(5), schedule=make_schedule(1), cfg=3.0, seed=[3], **GREEDY)
    video = ns.sample(tokenizer, model, make_text(5), cfg=3.0, seed=[3], **GREEDY)
    assert image.videos.shape == (1, 3, 1, 32, 48)
    assert all(torch.equal(a, b) for a, b in zip(image.tokens, video.tokens, strict=False))
    torch.testing.assert_close(image.videos[:, :, 0], video.videos[:, :, 0])


def test_a_given_image_is_kept():
    tokenizer, model = make_tokenizer(), make_model()
    bits = tokenizer.encode(torch.rand(1, 3, 1, 32, 48) * 2 - 1, make_schedule(1))
    result = ns.sample(tokenizer, model, make_text(5), keep_scales=bits, guidance="apg", cfg=34.0, seed=1, **GREEDY)
    kept = tokenizer.decode(bits, make_schedule(1)).add(1).mul(0.5)
    torch.testing.assert_close(result.videos[:, :, :1], kept)


def dense_mask(visits: list[Visit], text: int) -> torch.Tensor:
    """Which of all tokens, the text first, sees which one: (text + L, text + L) bool."""
    owners = torch.cat([torch.full((visit.num_tokens,), i) for i, visit in enumerate(visits)])
    largest = {visit.clip: i for i, visit in enumerate(visits)}
    sees = torch.eye(len(visits), dtype=torch.bool)
    for i, visit in enumerate(visits):
        if visit.clip:
            sees[i, largest[visit.clip - 1]] = True
    mask = torch.ones(text + len(owners), text + len(owners), dtype=torch.bool)
    mask[:text, text:] = False
    mask[text:, text:] = sees[owners][:, owners]
    return mask


@pytest.mark.parametrize(("name", "latent_frames", "length"), [("tf0", 1, 5), ("tf1", 5, 7)])
def test_the_mask_of_the_reference(name, latent_frames, length):
    """It has the visual tokens first, then the text, then padding."""
    schedule = Golden("base").schedule(latent_frames)
    mask = dense_mask(one_of_each(schedule, range(schedule.num_scales)), length)
    packed = read("base-transformer")[f"{name}_mask"].numpy()
    count, padded = len(mask), math.isqrt(8 * len(packed))
    golden = torch.from_numpy(np.unpackbits(packed)).bool().view(padded, padded)
    assert torch.equal(golden[:count, :count], mask.roll((-length, -length), (0, 1)))
    assert not golden[:count, count:].any()


@pytest.mark.parametrize("seed", range(8))
@torch.no_grad()
def test_training_without_a_mask_is_one_masked_sequence(seed):
    """For any repeat of each scale."""
    model, schedule, generator = make_model(), random_schedule(seed), torch.Generator().manual_seed(seed)
    visits = one_of_each(schedule, range(schedule.num_scales), generator if seed % 2 else None)
    text, count = make_text(5, 3), sum(visit.num_tokens for visit in visits)
    inputs = torch.randn(2, count, 64, generator=generator)
    together = model(text, inputs, visits)
    for i, (prompt, length) in enumerate(zip(text.split(), text.lengths, strict=True)):
        mask = dense_mask(visits, length)
        x = torch.cat((model.text_proj(prompt), model.word_embedding(inputs[i])))[None]
        rotation = torch.cat((text_rotations(length, 8), model.rotation(visits)), 1)
        for block in model.blocks:
            x = block(x, rotation, partial(F.scaled_dot_product_attention, attn_mask=mask, enable_gqa=True))
        parts = model.features(x)[:, length:].split([visit.num_tokens for visit in visits], 1)
        for visit, part, logits in zip(visits, parts, together, strict=True):
            torch.testing.assert_close(logits[i : i + 1], model.logits(part, visit), atol=2e-5, rtol=1e-5)


def test_every_weight_has_a_gradient_in_training():
    """Also the head of a kind of tokens that a step does not have, and the features for "no prompt"."""
    model = make_model()
    visits = [visit for visit in make_schedule(1).visits if visit.quantizer]
    inputs = torch.randn(1, sum(visit.num_tokens for visit in visits), 64)
    logits = model(make_text(4), inputs, visits, torch.tensor([False]))
    torch.cat([x.flatten() for x in logits]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    is_zero = {name for name, gradient in gradients.items() if gradient is not None and not gradient.any()}
    assert None not in gradients.values()
    assert {"semantic_head.weight", "unconditional_text"} <= is_zero and "head.weight" not in is_zero


def test_no_prompt_in_training():
    model = make_model()
    schedule = make_schedule(1)
    visits = schedule.visits[1:]
    inputs = torch.randn(2, sum(visit.num_tokens for visit in visits), 64)
    text = make_text(4, 6)
    dropped = model(text, inputs, visits, dropped=torch.tensor([True, False]))
    without = ns.TextFeatures(torch.cat((model.unconditional_text[:4], text.features[4:])), text.lengths)
    for a, b in zip(dropped, model(without, inputs, visits), strict=True):
        torch.testing.assert_close(a, b)


def test_bad_input():
    with refused("multiple of kv_heads", 4, 3):
        ns.InfinityStarConfig(width=32, heads=4, kv_heads=3)
    with refused("multiple of 8", 12):
        ns.InfinityStarConfig(width=48, heads=4, kv_heads=2)
    with refused("9b", "8b"):
        ns.InfinityStarConfig.named("9b")
    model = make_model()
    with refused("semantic_bits"):
        config = ns.VideoTokenizerConfig((8, 16, 32, 32, 32), 1, semantic_bits=8, schedule=make_schedule())
        ns.sample(ns.VideoTokenizer(config), model, make_text(3))
    with refused("cfg, apg", "xyz"):
        ns.sample(make_tokenizer(), model, make_text(3), guidance="xyz")
    with refused("temperature", 9, 2):
        ns.sample(make_tokenizer(), model, make_text(3), temperature=[1.0, 0.4])
