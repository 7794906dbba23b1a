"""Texts of any script as words and subwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextscale.conditioning.splitting import (
    LONGEST_WORD,
    UNKNOWN,
    SubwordVocabulary,
    WordVocabulary,
    split_unicode,
    split_words,
    unknown_words,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red Car, left of 2 cats!", ["a", "red", "car", ",", "left", "of", "2", "cats", "!"]),
        ("a t-shirt\tand  snake_case\n", ["a", "t", "-", "shirt", "and", "snake", "_", "case"]),
        ("", []),
        (" \n", []),
        ("Ünïcode ﬁne Ⅷ", ["ünïcode", "fine", "viii"]),
        ("ثعلب في الثلج", ["ثعلب", "في", "الثلج"]),
        ("\u202bשלום עולם\u202c", ["שלום", "עולם"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("雪の中の狐", ["雪", "の", "中", "の", "狐"]),
        ("눈 속의 여우", ["눈", "속의", "여우"]),
        ("🦊in the ❄️", ["🦊", "in", "the", "❄"]),
        ("👩‍🚀👍🏽 👨‍👩‍👧", ["👩‍🚀", "👍🏽", "👨‍👩‍👧"]),
        ("\u200dx \u200d\u0301y", ["x", "\u0301", "y"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@given(ANY_TEXT)
def test_words_are_not_empty_and_have_no_spaces(text):
    words = split_words(text)
    assert all(word and not any(char.isspace() for char in word) for word in words)
    assert split_words(" ".join(words)) == words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_divided_like_any_other_text(text):
    assert split_words(text) == split_unicode(text.lower())


def test_unknown_words_have_one_token():
    vocabulary = WordVocabulary(["fox", "snow"])
    assert [vocabulary.tokens(word) for word in ("snow", "fox", "zebra", "🦓")] == [(3,), (2,), (UNKNOWN,), (UNKNOWN,)]
    assert unknown_words(vocabulary, ["zebra", "fox", "in", "zebra"]) == ["zebra", "in"]


def test_the_first_sum_in_the_vocabulary_is_merged_first():
    assert SubwordVocabulary([" ", "a", "b", "c", "ab", "bc", "abc"]).pieces("abc") == [" ", "abc"]
    assert SubwordVocabulary([" ", "a", "b", "c", "bc", "ab"]).pieces("abc") == [" ", "a", "bc"]
    assert SubwordVocabulary([" ", "a", "b", "aa", "aab"]).pieces("aaab") == [" ", "aa", "a", "b"]


def test_characters_that_no_subword_has_are_unknown():
    vocabulary = SubwordVocabulary([" ", "a", "b", "ab"])
    assert vocabulary.pieces("abz") == [" ", "ab", "z"] and vocabulary.tokens("abz") == (2, 5, UNKNOWN)
    assert unknown_words(vocabulary, ["ab", "zz", "ba"]) == ["zz"]


@given(ANY_TEXT)
def test_pieces_add_up_to_the_word(text):
    vocabulary = SubwordVocabulary([" ", "a", "b", "ab", " a", "0", "00"])
    for word in split_words(text):
        assert "".join(vocabulary.pieces(word)) == f" {word}"


def test_very_long_words_are_divided():
    pieces = SubwordVocabulary(["aa", "aaaa"]).pieces("a" * 100_000)
    assert "".join(pieces).strip() == "a" * 100_000 and len(pieces) > 100_000 / LONGEST_WORD
