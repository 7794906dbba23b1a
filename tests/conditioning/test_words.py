"""The text encoder that learns together with its model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import randomise, refused

import nextscale as ns
from nextscale.conditioning.splitting import END, UNKNOWN
from nextscale.conditioning.words import WordIds, Words, WordsConfig
from nextscale.io.config import as_config, as_record

ENTRIES = ("a", "fox", "in", "the", "snow", "red", "car")
CONFIG = WordsConfig(ENTRIES, width=24, depth=2, heads=3, max_tokens=6)
PROMPTS = ["a fox in the snow", "a car", "", "zebra 🦓 in the red snow car", "the"]
EXACT = 2e-6


def make_words(**changes: Any) -> Words:
    return randomise(Words(replace(CONFIG, **changes)))


WORDS = make_words()


def test_prompts_as_numbers():
    ids = WORDS.ids(PROMPTS)
    assert ids.lengths == (6, 3, 1, 6, 2) and ids.ids.dtype == torch.int64
    assert ids.select([0, 1]).ids.tolist() == [2, 3, 4, 5, 6, END, 2, 8, END]
    assert ids.select([2]).ids.tolist() == [END]
    assert ids.select([3]).ids.tolist() == [UNKNOWN, UNKNOWN, 4, 5, 7, END]  # cut, but with its end
    assert len(WORDS.tokens(PROMPTS[3])) == 8


def test_the_words_that_are_not_known():
    assert WORDS.unknown("The FOX, a zebra and a zebra in snow") == ["zebra", "and"]
    assert WORDS.unknown("A red fox") == [] and WORDS.unknown("") == []


def test_subwords_know_what_they_can_spell():
    words = make_words(vocabulary=(" ", "a", "b", "ab", " ab"), kind="subwords")
    assert words.ids(["ab a"]).ids.tolist() == [6, 2, 3, END]
    assert words.unknown("ab ba zab") == ["zab"]


@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_prompts_of_any_script(kind):
    words = make_words(kind=kind)
    prompts = ["🦊 in the ❄️", "ثعلب في الثلج", "שלום עולם", "\u202e\u200d", "雪の狐" * 30]
    with torch.no_grad():
        text = words(words.ids(prompts))
    assert len(text) == 5 and text.features.isfinite().all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_a_prompt_alone_equals_the_one_in_a_batch(lengths):
    ids = WORDS.ids([" ".join(ENTRIES[i] for i in range(length)) for length in lengths])
    with torch.no_grad():
        together = WORDS(ids)
        for i, features in enumerate(together.split()):
            alone = WORDS(ids.select([i])).features
            torch.testing.assert_close(features, alone, atol=EXACT, rtol=0)


def test_padding_has_no_influence_at_all():
    """The features and gradients of a prompt are the same, bit for bit, whatever stands beside it."""
    ids = WORDS.ids(["a fox", "in the snow red"])
    other = WordIds(torch.cat((ids.ids[:3], torch.full((5,), 8))), ids.lengths)
    a, b = WORDS(ids), WORDS(other)
    assert torch.equal(a.split()[0], b.split()[0]) and not torch.equal(a.split()[1], b.split()[1])
    (gradient,) = torch.autograd.grad(a.split()[0].sum(), [WORDS.embedding.weight])
    assert gradient.any(dim=1).nonzero().flatten().tolist() == [END, 2, 3]


def test_order_and_every_word_matter():
    with torch.no_grad():
        plain, turned = (WORDS(WORDS.ids([text])).features for text in ("a red fox", "fox red a"))
        assert (plain - turned).abs().amax(dim=1).min() > 0.01
        for other in ("the red fox", "a car fox", "a red car"):
            assert (WORDS(WORDS.ids([other])).features - plain).abs().amax(dim=1).min() > 0.01


def test_every_weight_learns():
    ids = WORDS.ids(PROMPTS)
    parameters = dict(WORDS.named_parameters())
    gradients = torch.autograd.grad(WORDS(ids).features.square().sum(), list(parameters.values()))
    assert not [name for name, g in zip(parameters, gradients, strict=True) if not g.any()]


def test_autocast_changes_nothing():
    ids = WORDS.ids(PROMPTS)
    with torch.no_grad():
        plain = WORDS(ids).features
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(WORDS(ids).features, plain)
    assert plain.dtype == torch.float32


def test_initialisation_is_seeded_and_knows_no_unknown_word():
    a, b = (Words(CONFIG).init_weights(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not a.embedding.weight[UNKNOWN].any() and a.embedding.weight[END].any()


# ---- packed ids ------------------------------------------------------------------------------------------------------


def test_packed_ids():
    ids = WordIds(torch.arange(6), [3, 1, 2])
    assert len(ids) == 3 and repr(ids) == "WordIds(lengths=(3, 1, 2))"
    chosen = ids.select(torch.tensor([2, 0, 2]))
    assert chosen.ids.tolist() == [4, 5, 0, 1, 2, 4, 5] and chosen.lengths == (2, 3, 2)
    assert ids.to("meta").ids.device.type == "meta"


@pytest.mark.parametrize(
    ("ids", "lengths", "words"),
    [
        (torch.arange(3), [3, 1], ("add up to 4", "3 rows")),
        (torch.arange(3), [3, 0], ("prompt 1", "length 0")),
        (torch.zeros(3), [3], ("int64", "torch.float32")),
        (torch.zeros(3, 1, dtype=torch.int64), [3], ("(tokens,)", "(3, 1)")),
        ([1, 2], [2], ("int64", "[1, 2]")),
    ],
)
def test_ids_that_cannot_be(ids, lengths, words):
    with refused(*words):
        WordIds(ids, lengths)
    with refused("at least one prompt"):
        WordIds(torch.arange(1), [1]).select([])


def test_prompts_that_cannot_be_encoded():
    with refused("list of prompts", "'a fox'"):
        WORDS.ids("a fox")
    with refused("prompt 1", "3"):
        WORDS.ids(["a", 3])  # type: ignore[list-item]
    with refused("prompt 1", "Unicode"):
        WORDS.ids(["a", "\ud800"])
    with refused("at least one prompt"):
        WORDS.ids([])
    with refused("prompt 1 has 7 tokens", "at most 6"):
        WORDS(WordIds(torch.zeros(8, dtype=torch.int64), [1, 7]))


# ---- the configuration -----------------------------------------------------------------------------------------------


def test_a_configuration_survives_json():
    assert as_config(WordsConfig, json.loads(json.dumps(as_record(CONFIG)))) == CONFIG
    assert "fox" not in repr(CONFIG) and CONFIG.num_tokens == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocabulary": ()}, ("one or more words", "()")),
        ({"vocabulary": "fox"}, ("one or more words", "'fox'")),
        ({"vocabulary": ["fox", 3]}, ("not empty", "3")),
        ({"vocabulary": ["fox", ""]}, ("not empty", "''")),
        ({"vocabulary": ["\ud800"]}, ("a text",)),
        ({"vocabulary": ["fox", "a", "fox"]}, ("'fox' twice",)),
        ({"kind": "letters"}, ("'letters'", "words, subwords")),
        ({"width": 25}, ("multiple of heads", "25", "3")),
        ({"max_tokens": 1}, ("max_tokens", "at least 2", "1")),
        ({"depth": 0}, ("depth", "0")),
    ],
)
def test_configurations_that_cannot_be(changes, words):
    with refused(*words):
        as_config(WordsConfig, as_record(CONFIG) | changes)


# ---- as a part of Infinity -------------------------------------------------------------------------------------------


def test_public_types_are_those_of_the_packed_module():
    from nextscale.conditioning import text, words_config

    assert WordIds is text.WordIds and WordsConfig is words_config.WordsConfig and ns.TextFeatures is text.TextFeatures
