"""Divide texts into words and punctuation, and these into tokens of a vocabulary. Any Unicode text can be divided."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, Protocol

END, UNKNOWN = 0, 1
"""The token at the end of a prompt, and the token of all words that the vocabulary lacks."""
FIRST = 2
"""Token of the first entry of the vocabulary."""
ASCII_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
LONGEST_WORD = 64
"""Longer words are divided into pieces of this length before they are divided into subwords."""
MOST_CACHED = 2**16

ZERO_WIDTH_JOINER, NON_JOINER = "\u200d", "\u200c"
VARIATION_SELECTORS = ("\ufe0e", "\ufe0f")
"""They choose between black-and-white and coloured emoji, and are ignored."""
MODIFIERS = ((0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
"""Skin tones and the tags of regional flags, which belong to the emoji before them."""
UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Kana and Chinese characters, which are written without spaces. Each one counts as a word."""

CharKind = Literal["letter", "unspaced", "symbol", "mark", "space", "ignored"]


class Vocabulary(Protocol):
    """Turns words into tokens."""

    def tokens(self, word: str, /) -> Sequence[int]:
        """Return the tokens of a word. `UNKNOWN` stands for what the vocabulary lacks."""
        ...


class WordVocabulary:
    """One token for each word. Punctuation that is not in the vocabulary is ignored.

    Args:
        entries: the words.
    """

    def __init__(self, entries: Sequence[str]):
        self._table = {word: (FIRST + i,) for i, word in enumerate(entries)}

    def tokens(self, word: str) -> Sequence[int]:
        return self._table.get(word) or (() if is_punctuation(word) else (UNKNOWN,))


class SubwordVocabulary:
    """Words as sequences of pieces (byte-pair encoding, arXiv 1508.07909).

    The pieces of a word are at first its characters, after a space that marks its beginning. Two neighbours are merged
    if the vocabulary has their sum. The sum that comes first in the vocabulary is merged first. Punctuation that the
    vocabulary lacks is ignored.

    Args:
        entries: the pieces, those that are merged first in front.
    """

    def __init__(self, entries: Sequence[str]):
        self._table = {piece: FIRST + i for i, piece in enumerate(entries)}
        self._known: dict[str, Sequence[int]] = {}

    def tokens(self, word: str) -> Sequence[int]:
        if (found := self._known.get(word)) is not None:
            return found
        tokens = tuple(self._table.get(piece, UNKNOWN) for piece in self.pieces(word))
        tokens = () if UNKNOWN in tokens and is_punctuation(word) else tokens
        if len(self._known) < MOST_CACHED and len(word) <= LONGEST_WORD:
            self._known[word] = tokens
        return tokens

    def pieces(self, word: str) -> list[str]:
        """Divide a word into pieces. Characters that the vocabulary lacks stay alone."""
        parts = [word[i : i + LONGEST_WORD] for i in range(0, len(word), LONGEST_WORD)]
        return [piece for i, part in enumerate(parts) for piece in self._merge(part if i else f" {part}")]

    def _merge(self, text: str) -> list[str]:
        pieces, last = list(text), FIRST + len(self._table)
        while len(pieces) > 1:
            ranks = [self._table.get(a + b, last) for a, b in pairwise(pieces)]
            if min(ranks) == last:
                break
            i = ranks.index(min(ranks))
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        return pieces


def make_vocabulary(kind: str, entries: Sequence[str]) -> Vocabulary:
    """Return the vocabulary of a `WordsConfig`."""
    return SubwordVocabulary(entries) if kind == "subwords" else WordVocabulary(entries)


def unknown_words(vocabulary: Vocabulary, words: Iterable[str]) -> list[str]:
    """Return the words with something that the vocabulary lacks, each one once."""
    return [word for word in dict.fromkeys(words) if UNKNOWN in vocabulary.tokens(word)]


def split_words(text: str) -> list[str]:
    """Divide a text into words in lower case and punctuation.

    A word is a run of letters, digits and their accents. Every other character that is not a space is a word of its
    own. Emoji that are joined, such as those of families and professions, are one word.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return ASCII_WORDS.findall(text) if text.isascii() else split_unicode(text)


def split_unicode(text: str) -> list[str]:
    """Divide a text that is not ASCII; see `split_words`."""
    words: list[str] = []
    continues, in_word, joined = False, False, False  # is there a word to continue; with letters; with anything
    for char in text:
        kind = kind_of(char)
        if kind == "ignored":
            continue
        if kind == "space":
            continues = False
            continue
        if continues and (kind == "mark" or joined or (kind == "letter" and in_word)):
            words[-1] += char
            in_word = in_word if kind == "mark" else kind == "letter"
        elif kind != "mark" or unicodedata.category(char) != "Cf":  # else a joiner with nothing to join
            words.append(char)
            continues, in_word = True, kind == "letter"
        joined = char == ZERO_WIDTH_JOINER and continues
    return words


@lru_cache(MOST_CACHED)
def kind_of(char: str) -> CharKind:
    """Return what a character is in a text: whether it belongs to the word before it, and whether others follow."""
    code, category = ord(char), unicodedata.category(char)
    if char in VARIATION_SELECTORS:
        return "ignored"
    if category[0] == "M" or char in (ZERO_WIDTH_JOINER, NON_JOINER) or is_in(code, MODIFIERS):
        return "mark"
    if category == "Cf":  # such as the marks for the direction of writing
        return "ignored"
    if category[0] == "Z" or category == "Cc":
        return "space"
    if category[0] in "LN":
        return "unspaced" if is_in(code, UNSPACED) else "letter"
    return "symbol"


def is_punctuation(word: str) -> bool:
    return all(unicodedata.category(char)[0] == "P" for char in word)


def is_in(code: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)
