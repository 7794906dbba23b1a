"""Encoded prompts as packed batches, and the learned features that stand for "no prompt".

Notation: B prompts of l_1 .. l_B tokens, T numbers per token, R rows of the learned features. A batch is packed: the
tokens of all prompts follow each other without padding.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from nextscale.errors import InputError, brief


class Streams(Protocol):
    """The part of `nextscale.sampling.rng.RandomStreams` that places prompts."""

    batch: int
    device: torch.device


@dataclass(frozen=True, eq=False, init=False)
class TextFeatures:
    """The features of B prompts.

    Args:
        features: (l_1 + .. + l_B, T), the tokens of all prompts one after another. Stored as float32.
        lengths: number of tokens of each prompt, B integers of at least 1.

    Raises:
        InputError: The lengths do not add up to the number of rows, or the arguments are of another shape or type.
    """

    features: Tensor = field(repr=False)
    lengths: tuple[int, ...]

    def __init__(self, features: Tensor, lengths: Iterable[int] | Tensor):
        if not isinstance(features, Tensor) or features.ndim != 2 or not features.is_floating_point():
            raise InputError(f"text features are floating-point numbers (tokens, width), not {kind(features)}")
        object.__setattr__(self, "features", features.float())
        object.__setattr__(self, "lengths", check_lengths(lengths, len(features)))

    @classmethod
    def of(cls, prompts: Sequence[Tensor]) -> TextFeatures:
        """Pack B tensors (l_i, T).

        Raises:
            InputError: There are none, or their shapes do not fit together.
        """
        if not prompts:
            raise InputError("expected the features of at least one prompt, got none")
        for features in prompts:
            if not isinstance(features, Tensor) or features.ndim != 2:
                raise InputError(f"the features of a prompt have the shape (tokens, width), not {kind(features)}")
            check_width(features, prompts[0].shape[1])
        return cls(torch.cat(tuple(prompts)), tuple(len(features) for features in prompts))

    def __len__(self) -> int:
        """B."""
        return len(self.lengths)

    def split(self) -> list[Tensor]:
        """Unpack into B tensors (l_i, T), which share the memory of ``features``."""
        return list(self.features.split(self.lengths))

    def select(self, indices: Iterable[int] | Tensor) -> TextFeatures:
        """Return the prompts at these positions, in this order. A position may occur several times.

        Raises:
            InputError: There are no indices.
        """
        prompts = self.split()
        return TextFeatures.of([prompts[operator.index(i)] for i in indices])

    def join(self, other: TextFeatures) -> TextFeatures:
        """Return the prompts of both batches as one batch."""
        check_width(other.features, self.features.shape[1])
        return TextFeatures(torch.cat((self.features, other.features)), self.lengths + other.lengths)

    def with_features(self, features: Tensor) -> TextFeatures:
        """Return prompts of the same lengths with other features."""
        return TextFeatures(features, self.lengths)

    def to(self, device: torch.device | str) -> TextFeatures:
        """Move to a device."""
        return TextFeatures(self.features.to(device), self.lengths)


@dataclass(frozen=True, eq=False, init=False)
class WordIds:
    """B prompts as numbers of words or subwords, for a model with its own text encoder (`Words.ids` makes them).

    Args:
        ids: (l_1 + .. + l_B,) int64, the tokens of all prompts one after another.
        lengths: number of tokens of each prompt, B integers of at least 1.

    Raises:
        InputError: The lengths do not add up to the number of ids, or the arguments are of another shape or type.
    """

    ids: Tensor = field(repr=False)
    lengths: tuple[int, ...]

    def __init__(self, ids: Tensor, lengths: Iterable[int] | Tensor):
        if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.dtype != torch.int64:
            raise InputError(f"ids of words are int64 numbers (tokens,), not {kind(ids)}")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "lengths", check_lengths(lengths, len(ids)))

    def __len__(self) -> int:
        """B."""
        return len(self.lengths)

    def select(self, indices: Iterable[int] | Tensor) -> WordIds:
        """Return the prompts at these positions, in this order. A position may occur several times.

        Raises:
            InputError: There are no indices.
        """
        prompts = self.ids.split(self.lengths)
        chosen = [prompts[operator.index(i)] for i in indices]
        return WordIds(torch.cat(chosen) if chosen else self.ids[:0], [len(prompt) for prompt in chosen])

    def to(self, device: torch.device | str) -> WordIds:
        """Move to a device."""
        return WordIds(self.ids.to(device), self.lengths)


def features_of(text: TextFeatures | WordIds, words: Callable[[WordIds], TextFeatures] | None) -> TextFeatures:
    """Return the features of prompts.

    Args:
        words: the text encoder that is a part of the model. It encodes `WordIds`.

    Raises:
        InputError: the prompts are `WordIds`, but the model has no text encoder of its own.
    """
    if isinstance(text, TextFeatures):
        return text
    if words is None:
        raise InputError("this model has no text encoder of its own: expected TextFeatures, not WordIds")
    return words(text)


@dataclass(frozen=True, eq=False)
class TextConditioner:
    """The conditioning of a text-to-image model.

    Args:
        learned: (R, T), the model's parameter ``cfg_uncond``. Its first l rows replace a prompt of l tokens where there
            is no prompt. R is also the largest number of tokens of a prompt.
        encode: turns `WordIds` into features; see `nextscale.transformer.infinity.Infinity.encode`.
    """

    learned: Tensor = field(repr=False)
    encode: Callable[[TextFeatures | WordIds], TextFeatures] | None = field(default=None, repr=False)

    def count(self, text: TextFeatures | WordIds, num_images: int | None) -> int:
        """The batch size B, from the prompts or, for a single prompt, from ``num_images``.

        Raises:
            InputError: Neither `TextFeatures` nor `WordIds`, or the two numbers disagree.
        """
        if not isinstance(text, TextFeatures | WordIds):
            raise InputError(f"prompts are given to the model as TextFeatures, not {kind(text)}")
        if num_images is None or num_images == len(text):
            return len(text)
        if not isinstance(num_images, int) or num_images < 1:
            raise InputError(f"num_images must be an integer of at least 1, not {brief(num_images)}")
        if len(text) > 1:
            raise InputError(
                f"{len(text)} prompts were given for {num_images} images: expected one prompt, or one each"
            )
        return num_images

    def parse(self, text: TextFeatures | WordIds, streams: Streams) -> TextFeatures:
        """Move prompts to the sampler's device, and encode `WordIds`. A single prompt is repeated for all images.

        Args:
            streams: give B and the device.

        Raises:
            InputError: The features have another width than the model's, a prompt has more than R tokens, or the model
                has no text encoder for `WordIds`.
        """
        batch = self.count(text, streams.batch)
        text = text.to(streams.device)
        if self.encode is not None:
            with torch.no_grad():
                text = self.encode(text)
        assert isinstance(text, TextFeatures)
        self.check(text)
        return text if len(text) == batch else text.select([0] * batch)

    def check(self, text: TextFeatures) -> None:
        """Check that the model takes these features.

        Raises:
            InputError: The features have another width than the model's, or a prompt has more than R tokens.
        """
        rows, width = self.learned.shape
        check_width(text.features, width)
        if max(text.lengths) > rows:
            i = text.lengths.index(max(text.lengths))
            raise InputError(f"prompt {i} has {text.lengths[i]} tokens: this model takes at most {rows}")

    def unconditional(self, text: TextFeatures) -> TextFeatures:
        """ "No prompt" for each of the prompts: the first l rows of the learned features for a prompt of l tokens."""
        self.check(text)
        return TextFeatures(self._rows(text), text.lengths)

    def join(self, first: TextFeatures, second: TextFeatures) -> TextFeatures:
        """Two batches of prompts as one."""
        return first.join(second)

    def drop(self, text: TextFeatures, mask: Tensor) -> TextFeatures:
        """Replace the prompts selected by a bool mask (B,) with "no prompt", in a copy.

        The learned features receive a gradient in any case. It is zero if the mask selects no prompt, so that the
        optimizer updates its moments in each step.
        """
        self.check(text)
        if len(mask) != len(text):
            raise InputError(f"the mask selects among {len(mask)} prompts, but there are {len(text)}")
        owner = torch.repeat_interleave(torch.arange(len(text)), torch.tensor(text.lengths))
        dropped = mask.to(text.features.device)[owner.to(text.features.device), None]
        return text.with_features(torch.where(dropped, self._rows(text), text.features))

    def _rows(self, text: TextFeatures) -> Tensor:
        """The first l rows of the learned features for each prompt, (l_1 + .. + l_B, T) float32, with gradient."""
        positions = torch.cat([torch.arange(length) for length in text.lengths])
        return self.learned[positions.to(self.learned.device)].to(text.features)


def check_lengths(lengths: Iterable[int] | Tensor, rows: int) -> tuple[int, ...]:
    """Return the numbers of tokens of prompts as integers.

    Args:
        rows: number of tokens of all prompts.

    Raises:
        InputError: They are not integers of at least 1 that add up to ``rows``, or there are none.
    """
    try:
        counts = tuple(operator.index(length) for length in lengths)
    except TypeError as error:
        raise InputError(f"lengths of prompts are a list of integers, not {brief(lengths)}") from error
    if not counts:
        raise InputError("expected the length of at least one prompt, got none")
    if min(counts) < 1:
        raise InputError(f"prompt {counts.index(min(counts))} has length {min(counts)}: expected at least 1 token")
    if sum(counts) != rows:
        raise InputError(f"the lengths of the prompts add up to {sum(counts)}, but there are {rows} rows")
    return counts


def check_width(features: Tensor, width: int) -> None:
    """Raise InputError unless features (tokens, T) have this width."""
    if features.shape[1] != width:
        raise InputError(f"text features have width {features.shape[1]}: expected {width}")


def kind(value: object) -> str:
    """Describe a value in a message: type and shape of a tensor, else a short repr."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else brief(value)
