"""The text encoder that is a part of a model, where other models have a T5."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nextscale.conditioning.text import TextFeatures
from nextscale.conditioning.words import Words
from nextscale.errors import brief
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.runtime.device import one_core_each

MOST_NAMED, LONGEST_NAMED = 10, 40
"""Most unknown words that a note lists, and most characters of each."""


class OwnEncoder:
    """Encodes prompts by the ``words`` of a model.

    Args:
        words: the encoder, whose vocabulary is used.
        ready: returns the encoder as it is prepared for sampling.
    """

    content = ""
    """See `nextscale.conditioning.feature_cache.content_of`."""

    def __init__(self, words: Words, ready: Callable[[], Words]):
        self._words, self._ready = words, ready

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder's weights."""
        return weights_fingerprint(self._words)

    def check(self, prompts: Sequence[str]) -> None:
        """Raise InputError for prompts that cannot be encoded."""
        self._words.ids(prompts)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Return the features of prompts, on the CPU.

        Each prompt is encoded alone, on a CPU by one core, so that its features depend neither on the other prompts nor
        on the number of cores, bit for bit.

        Raises:
            InputError: not a list of strings, or not valid Unicode.
        """
        words = self._ready()
        ids = words.ids(prompts)

        def one_by_one(count: int) -> list[Tensor]:
            return [words(ids.select([i]).to(words.device)).features.cpu() for i in range(count)]

        features = one_core_each(one_by_one, [len(ids)])[0] if words.device.type == "cpu" else one_by_one(len(ids))
        return TextFeatures.of(features)

    def notes(self, prompts: Sequence[str], negative: str = "") -> tuple[str, ...]:
        """Return a sentence about all words that the model does not know, and one for each prompt that will be cut.

        Args:
            negative: the negative prompt.
        """
        notes = []
        texts = [*prompts, negative]
        if unknown := list(dict.fromkeys(word for text in texts for word in self._words.unknown(text))):
            named = ", ".join(brief(word, LONGEST_NAMED) for word in unknown[:MOST_NAMED])
            more = f" and {len(unknown) - MOST_NAMED:,} more" if len(unknown) > MOST_NAMED else ""
            what = "the word" if len(unknown) == 1 else f"{len(unknown):,} words:"
            notes.append(f"the model does not know {what} {named}{more}")
        most = self._words.config.max_tokens
        for name, text in (
            *(("the prompt", prompt) for prompt in dict.fromkeys(prompts)),
            ("the negative prompt", negative),
        ):
            if (count := len(self._words.tokens(text))) > most:
                notes.append(f"{name} {brief(text, LONGEST_NAMED)} has {count:,} tokens: only {most} are used")
        return tuple(notes)
