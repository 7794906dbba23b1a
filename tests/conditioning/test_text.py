"""Packed features of prompts, and what stands for "no prompt"."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused

import nextscale as ns
from nextscale.conditioning.text import TextConditioner
from nextscale.sampling.rng import RandomStreams

LENGTHS = (2, 1, 4)


def prompts(*lengths: int, width: int = 6, seed: int = 0) -> ns.TextFeatures:
    return ns.TextFeatures(torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(seed)), lengths)


def conditioner(rows: int = 5, width: int = 6) -> TextConditioner:
    return TextConditioner(torch.nn.Parameter(torch.randn(rows, width, generator=torch.Generator().manual_seed(9))))


def streams(batch: int) -> RandomStreams:
    return RandomStreams(0, batch, torch.device("cpu"))


def same(a: ns.TextFeatures, b: ns.TextFeatures) -> bool:
    return a.lengths == b.lengths and torch.equal(a.features, b.features)


@pytest.mark.parametrize("lengths", [[2, 1, 4], np.array([2, 1, 4]), torch.tensor([2, 1, 4])])
def test_lengths_of_any_kind_become_integers(lengths):
    text = ns.TextFeatures(torch.zeros(7, 6), lengths)
    assert text.lengths == LENGTHS and all(type(length) is int for length in text.lengths) and len(text) == 3


def test_packing_and_unpacking():
    text = prompts(*LENGTHS)
    parts = text.split()
    assert [tuple(part.shape) for part in parts] == [(2, 6), (1, 6), (4, 6)]
    assert torch.equal(parts[1], text.features[2:3])
    assert same(ns.TextFeatures.of(parts), text)
    assert same(text.select([2, 0, 2]), ns.TextFeatures.of([parts[2], parts[0], parts[2]]))
    assert same(text.select(torch.tensor([-1])), ns.TextFeatures.of([parts[2]]))
    assert same(text.to("cpu"), text)
    assert text.to("meta").features.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_are_float32(dtype):
    text = ns.TextFeatures(torch.ones(2, 3, dtype=dtype), [2])
    assert text.features.dtype == torch.float32


@pytest.mark.parametrize(
    ("features", "lengths", "words"),
    [
        (torch.zeros(7, 6), [2, 1], ("add up to 3", "7 rows")),
        (torch.zeros(3, 6), [3, 0], ("prompt 1", "length 0", "at least 1")),
        (torch.zeros(3, 6), [4, -1], ("length -1",)),
        (torch.zeros(0, 6), [], ("at least one prompt",)),
        (torch.zeros(3, 6), [1.5, 1.5], ("integers", "[1.5, 1.5]")),
        (torch.zeros(3, 6), 3, ("integers", "3")),
        (torch.zeros(1, 3, 6), [3], ("(tokens, width)", "(1, 3, 6)")),
        (torch.zeros(3, 6, dtype=torch.int64), [3], ("floating-point", "torch.int64")),
        ("a fox", [3], ("floating-point", "'a fox'")),
    ],
)
def test_features_that_cannot_be(features, lengths, words):
    with refused(*words):
        ns.TextFeatures(features, lengths)


def test_parts_that_do_not_fit():
    with refused("at least one prompt"):
        ns.TextFeatures.of([])
    with refused("width 5", "expected 6"):
        ns.TextFeatures.of([torch.zeros(2, 6), torch.zeros(2, 5)])
    with refused("(tokens, width)", "(6,)"):
        ns.TextFeatures.of([torch.zeros(6)])
    with refused("at least one prompt"):
        prompts(1).select([])


def test_a_single_prompt_is_repeated_and_several_are_not():
    one, three = prompts(2), prompts(*LENGTHS)
    text = conditioner()
    assert [text.count(one, n) for n in (None, 1, 4)] == [1, 1, 4]
    assert [text.count(three, n) for n in (None, 3)] == [3, 3]
    assert same(text.parse(one, streams(3)), ns.TextFeatures.of(one.split() * 3))
    assert same(text.parse(three, streams(3)), three)
    with refused("3 prompts", "4 images"):
        text.count(three, 4)
    for bad in (0, 1.5, "2"):
        with refused("num_images", repr(bad)):
            text.count(one, bad)  # type: ignore[arg-type]
    for bad in ("a fox", torch.zeros(2, 6), None):
        with refused("TextFeatures"):
            text.count(bad, None)  # type: ignore[arg-type]


def test_prompts_that_the_model_does_not_take():
    text = conditioner(rows=5, width=6)
    text.check(prompts(5))
    with refused("prompt 1 has 6 tokens", "at most 5"):
        text.parse(prompts(2, 6), streams(2))
    with refused("width 4", "expected 6"):
        text.parse(prompts(2, width=4), streams(1))
    for call in (text.unconditional, lambda t: text.drop(t, torch.tensor([True]))):
        with refused("prompt 0 has 6 tokens", "at most 5"):
            call(prompts(6))


def test_no_prompt_is_as_long_as_the_prompt():
    text = conditioner()
    learned = text.learned.detach()
    nothing = text.unconditional(prompts(*LENGTHS))
    assert same(nothing, ns.TextFeatures.of([learned[:2], learned[:1], learned[:4]]))
    half = TextConditioner(learned.to(torch.bfloat16))
    assert same(half.unconditional(prompts(2)), ns.TextFeatures.of([learned[:2].to(torch.bfloat16)]))


def test_two_batches_become_one():
    text, a, b = conditioner(), prompts(2, 1), prompts(3, seed=1)
    assert same(text.join(a, b), ns.TextFeatures.of([*a.split(), *b.split()]))
    with refused("width 4", "expected 6"):
        text.join(a, prompts(3, width=4))


def test_dropped_prompts_are_replaced_in_a_copy():
    text, given = conditioner(), prompts(*LENGTHS)
    before = given.features.clone()
    dropped = text.drop(given, torch.tensor([True, False, True]))
    learned = text.learned.detach()
    assert same(dropped, ns.TextFeatures.of([learned[:2], before[2:3], learned[:4]]))
    assert torch.equal(given.features, before)
    with refused("2 prompts", "3"):
        text.drop(given, torch.tensor([True, False]))


@pytest.mark.parametrize("mask", [[False, False, False], [True, False, True]])
def test_the_learned_features_receive_a_gradient_in_any_case(mask):
    text, given = conditioner(), prompts(*LENGTHS)
    text.drop(given, torch.tensor(mask)).features.sum().backward()
    uses = torch.zeros(5)
    for length, dropped in zip(LENGTHS, mask, strict=True):
        uses[:length] += dropped
    assert text.learned.grad is not None
    assert torch.equal(text.learned.grad, uses[:, None].expand(5, 6))


def test_a_representation_shows_no_numbers():
    assert repr(prompts(*LENGTHS)) == "TextFeatures(lengths=(2, 1, 4))"
