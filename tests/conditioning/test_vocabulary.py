"""Vocabularies from captions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import refused

from nextscale.conditioning.splitting import UNKNOWN, make_vocabulary, split_words
from nextscale.conditioning.vocabulary import grow, merged, vocabulary_of

CAPTIONS = ["a red car", "a blue car left of a cat", "a red cat", "cats"]
KINDS = ["words", "subwords"]


def test_frequent_words_come_first_and_rare_ones_are_left_out():
    assert vocabulary_of(CAPTIONS).vocabulary == ("a", "car", "cat", "red")
    everything = vocabulary_of(CAPTIONS, least_count=1)
    assert everything.vocabulary == ("a", "car", "cat", "red", "blue", "cats", "left", "of")
    assert vocabulary_of(CAPTIONS, size=2).vocabulary == ("a", "car")


def test_sizes_and_the_longest_caption():
    config = vocabulary_of(CAPTIONS, width=24, depth=1, heads=3)
    assert (config.kind, config.width, config.depth, config.heads) == ("words", 24, 1, 3)
    assert config.max_tokens == 8  # seven words and the end
    assert vocabulary_of(CAPTIONS, most_tokens=5).max_tokens == 5
    assert vocabulary_of(["cat", "cat"]).max_tokens == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_captions_is_irrelevant(kind):
    assert vocabulary_of(CAPTIONS, kind) == vocabulary_of(CAPTIONS[::-1], kind)


def test_frequent_pairs_become_subwords():
    config = vocabulary_of(["low lower lowest"] * 3, "subwords", size=12)
    assert config.vocabulary[:9] == (" ", "l", "o", "w", "e", "r", "s", "t", "ow") or " low" in config.vocabulary
    pieces = make_vocabulary("subwords", config.vocabulary)
    assert len(pieces.tokens("low")) == 1 and len(pieces.tokens("lower")) <= 3
    assert len(vocabulary_of(["low lower lowest"] * 3, "subwords", size=10).vocabulary) == 10


@given(st.lists(st.text(st.sampled_from("abc 🦊é"), max_size=12), min_size=1, max_size=8))
def test_captions_are_encoded_by_their_subwords_without_unknown_tokens(captions):
    if not any(split_words(caption) for caption in captions):
        return
    config = vocabulary_of(captions, "subwords", least_count=1)
    known = make_vocabulary("subwords", config.vocabulary)
    for caption in captions:
        tokens = [token for word in split_words(caption) for token in known.tokens(word)]
        assert UNKNOWN not in tokens and len(tokens) < config.max_tokens


def test_neighbours_are_merged_from_the_left():
    assert merged(["a", "a", "a", "b"], ("a", "a")) == ["aa", "a", "b"]


def test_a_vocabulary_grows_at_its_end():
    old = vocabulary_of(CAPTIONS)
    new = grow(old, ["a zebra on grass", "a zebra", "a yak"])
    assert new.vocabulary == (*old.vocabulary, "zebra") and new.max_tokens == old.max_tokens
    assert grow(old, ["a zebra"], least_count=1).vocabulary[-1] == "zebra"
    assert grow(new, ["a zebra", "zebra"]) == new


def test_subwords_grow_by_characters_only():
    old = vocabulary_of(CAPTIONS, "subwords")
    new = grow(old, ["a zebra 🦓", "a zebra 🦓"])
    assert new.vocabulary == (*old.vocabulary, "b", "z", "🦓")
    before, after = (make_vocabulary("subwords", config.vocabulary) for config in (old, new))
    assert all(before.tokens(word) == after.tokens(word) for word in ("a", "red", "car", "cats"))


@pytest.mark.parametrize("kind", KINDS)
def test_captions_without_words(kind):
    with refused("2 captions", "0 different words", "2 times"):
        vocabulary_of(["", " "], kind)
    with refused("least_count", "not 0"):
        vocabulary_of(CAPTIONS, kind, least_count=0)


def test_no_rare_word_is_enough():
    with refused("1 captions", "2 different words", "2 times"):
        vocabulary_of(["a fox"])
