"""Prompts together with a given video that is to be continued (InfinityStar, arXiv 2511.04675, section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from nextscale.conditioning.text import TextFeatures
from nextscale.scales.schedule import Visit


class GivenTokens(NamedTuple):
    """Tokens of a given video. They see each other, and nothing else."""

    visits: tuple[Visit, ...]
    """The positions of the tokens."""
    inputs: Tensor
    """(B, n, D), the tokens of these visits, one visit after another."""


@dataclass(frozen=True, eq=False, init=False)
class ContinuedText(TextFeatures):
    """The features of B prompts, and the videos that they continue. All visits see both.

    Args:
        text: B prompts.
        given: groups of tokens of the videos.
    """

    given: tuple[GivenTokens, ...] = field(repr=False)

    def __init__(self, text: TextFeatures, given: Sequence[GivenTokens]):
        super().__init__(text.features, text.lengths)
        object.__setattr__(self, "given", tuple(given))

    def select(self, indices: Iterable[int] | Tensor) -> ContinuedText:
        """Return the prompts and videos at these positions; see `TextFeatures.select`."""
        chosen = [int(i) for i in indices]
        given = [each._replace(inputs=each.inputs[chosen]) for each in self.given]
        return ContinuedText(super().select(chosen), given)

    def join(self, other: TextFeatures) -> ContinuedText:
        """Return both batches as one. Prompts without videos, such as negative ones, continue those of this batch."""
        theirs = other.given if isinstance(other, ContinuedText) else self.given
        given = [a._replace(inputs=torch.cat((a.inputs, b.inputs))) for a, b in zip(self.given, theirs, strict=True)]
        return ContinuedText(super().join(other), given)

    def with_features(self, features: Tensor) -> ContinuedText:
        """Return prompts of the same lengths with other features, and the same videos."""
        return ContinuedText(super().with_features(features), self.given)

    def to(self, device: torch.device | str) -> ContinuedText:
        """Move to a device."""
        return ContinuedText(super().to(device), [each._replace(inputs=each.inputs.to(device)) for each in self.given])
