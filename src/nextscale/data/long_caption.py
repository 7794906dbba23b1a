"""Captions of the official Infinity data: a long one and a short one. Training uses parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SHORT = 0.5
"""Probability of the short caption, as in the official recipe."""
USER_PROMPT = "user_prompt"
"""Type of a long caption that is not shortened."""
LONG_SENTENCE = 15
"""A first sentence of at least this many words is a caption of its own."""


@dataclass(frozen=True)
class LongAndShort(Sequence[str]):
    """All texts that an image may be used with: the short caption, the long one, and the first sentences of it.

    Half of the uses have the short caption, or the first one or two sentences of the long one if there is no short one.
    The others have a random number of sentences, more than these. A `USER_PROMPT` is not shortened. Captions end
    before the first "--".
    """

    long: str
    short: str
    kind: str

    @cached_property
    def sentences(self) -> list[str]:
        """The parts of the long caption between full stops."""
        return [part for part in self.long.split(".") if part]

    @property
    def fewest(self) -> int:
        """Number of sentences in place of a short caption."""
        return 1 if len(self.sentences[0].split()) >= LONG_SENTENCE else 2

    @property
    def is_whole(self) -> bool:
        """Whether the long caption is not shortened."""
        return self.kind == USER_PROMPT or not self.sentences

    def pick(self, rng: np.random.Generator) -> str:
        """Return one of the texts. Uses one or two random numbers, in the order of the official code."""
        if not self.long:
            return cut(self.short)
        if self.is_whole:
            return cut(self.short if self.short and rng.random() < SHORT else self.long)
        fewest, most = self.fewest, len(self.sentences)
        if rng.random() < SHORT:
            return cut(self.short or self.first(fewest))
        return cut(self.long if most <= fewest else self.first(int(rng.integers(fewest + 1, most + 1))))

    def first(self, count: int) -> str:
        """Return the first sentences of the long caption."""
        return ".".join(self.sentences[:count])

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """All texts that `pick` may return."""
        if self.is_whole:
            found = [self.short, self.long]
        else:
            fewest, most = self.fewest, len(self.sentences)
            found = [self.short or self.first(fewest)]
            found += [self.long] if most <= fewest else [self.first(j) for j in range(fewest + 1, most + 1)]
        return tuple(dict.fromkeys(cut(text) for text in found if text))

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        return self.texts[index]


def cut(text: str) -> str:
    """Return a caption up to the first "--", or the whole caption if it begins with it."""
    return text.split("--", 1)[0] or text
