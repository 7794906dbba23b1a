"""Build the vocabulary of a text encoder from captions.

The byte-pair encoding is our own. With the package tokenizers, every image would need the extra ``text``, and its files
would be a second description of the vocabulary.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from nextscale.conditioning.splitting import UNKNOWN, make_vocabulary, split_words
from nextscale.conditioning.words_config import LEAST_COUNT, MOST_TOKENS, MOST_WORDS, Kind, WordsConfig
from nextscale.errors import InputError


def vocabulary_of(
    captions: Collection[str],
    kind: Kind = "words",
    least_count: int = LEAST_COUNT,
    size: int = MOST_WORDS,
    most_tokens: int = MOST_TOKENS,
    **sizes: Any,
) -> WordsConfig:
    """Return the configuration of a text encoder for captions. It does not depend on their order.

    ``max_tokens`` is the length of the longest caption, because later positions would not be trained.

    Args:
        least_count: words, or pairs of subwords, that occur less often are left out.
        size: largest number of words or subwords.
        most_tokens: bound of ``max_tokens``. Longer captions are cut.
        sizes: other fields of `WordsConfig`.

    Raises:
        InputError: no word occurs often enough, or a field is out of range.
    """
    if least_count < 1 or size < 1 or most_tokens < 2:
        raise InputError(
            f"expected a least_count of at least 1, a size of at least 1 and most_tokens of at least 2, "
            f"not {least_count}, {size} and {most_tokens}"
        )
    counts = count_words(captions)
    entries = (learn_subwords if kind == "subwords" else frequent)(counts, least_count, size)
    if not entries:
        raise InputError(
            f"the {len(captions):,} captions have {len(counts):,} different words, but none occurs {least_count} times"
        )
    config = WordsConfig(tuple(entries), kind, **sizes)
    return replace(config, max_tokens=min(longest(captions, config), most_tokens))


def grow(config: WordsConfig, captions: Collection[str], least_count: int = LEAST_COUNT) -> WordsConfig:
    """Return the configuration with new entries from captions at the end of its vocabulary.

    A vocabulary of words gets the new words. One of subwords gets new characters only, because new pieces would divide
    known words in another way.

    Args:
        least_count: new words or characters that occur less often are left out.
    """
    counts, known = count_words(captions), make_vocabulary(config.kind, config.vocabulary)
    new = Counter({word: count for word, count in counts.items() if UNKNOWN in known.tokens(word)})
    if config.kind == "subwords":
        new = count_characters(new)
        for character in config.vocabulary:
            new.pop(character, None)
    return replace(config, vocabulary=(*config.vocabulary, *frequent(new, least_count, len(new))))


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Return how often each word occurs."""
    return Counter(word for caption in captions for word in split_words(caption))


def count_characters(counts: Counter[str]) -> Counter[str]:
    """Return how often each character occurs in words, given how often each word does."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    return characters


def frequent(counts: Counter[str], least_count: int, size: int) -> list[str]:
    """Return the texts that occur often enough, the most frequent ones first."""
    chosen = [text for text, count in counts.items() if count >= least_count]
    return sorted(chosen, key=lambda text: (-counts[text], text))[:size]


def longest(captions: Iterable[str], config: WordsConfig) -> int:
    """Return the number of tokens of the longest caption, including the end, and at least 2."""
    known = make_vocabulary(config.kind, config.vocabulary)
    lengths = (sum(len(known.tokens(word)) for word in split_words(caption)) for caption in captions)
    return max(2, 1 + max(lengths, default=1))


def learn_subwords(counts: Counter[str], least_count: int, size: int) -> list[str]:
    """Return the pieces of a byte-pair encoding: all frequent characters, then the most frequent pairs of pieces.

    Args:
        counts: how often each word occurs.
    """
    spaces = Counter({" ": sum(counts.values())})
    entries = frequent(spaces + count_characters(counts), least_count, size)
    known, words = set(entries), [[" ", *word] for word in sorted(counts)]
    weights = [counts[word] for word in sorted(counts)]
    pairs: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

    def add(i: int, sign: int) -> None:
        """Add or subtract the pairs of a word."""
        for pair in pairwise(words[i]):
            if pair[0] in known and pair[1] in known:
                pairs[pair] += sign * weights[i]
                places[pair].add(i)

    for i in range(len(words)):
        add(i, 1)
    while len(entries) < size and pairs:
        pair = max(pairs, key=lambda pair: (pairs[pair], pair))
        if pairs[pair] < least_count:
            break
        piece = "".join(pair)
        if piece not in known:
            known.add(piece)
            entries.append(piece)
        for i in places.pop(pair):
            add(i, -1)
            words[i] = merged(words[i], pair)
            add(i, 1)
        del pairs[pair]
    return entries


def merged(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Return pieces with each occurrence of a pair merged, from the left."""
    result: list[str] = []
    i = 0
    while i < len(pieces):
        both = tuple(pieces[i : i + 2]) == pair
        result.append("".join(pair) if both else pieces[i])
        i += 2 if both else 1
    return result
