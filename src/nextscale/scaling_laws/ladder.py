"""A ladder of model sizes with the same proportions (VAR, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nextscale.errors import InputError

OFFICIAL_WIDTH = 64
"""Width per block of the official models, which is also the width of each head."""


@dataclass(frozen=True)
class Rung:
    """One size. The number of heads is the depth, so all sizes have the same head dimension."""

    depth: int
    width: int

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.depth

    @property
    def name(self) -> str:
        """Name, such as ``d03``."""
        return f"d{self.depth:02d}"

    def learning_rate(self, base: float, base_width: int, power: float) -> float:
        """Return base * (base_width / width)^power. With a positive power, wide models get lower rates."""
        return base * (base_width / self.width) ** power


def make_ladder(depths: Sequence[int], width_per_depth: int = OFFICIAL_WIDTH) -> tuple[Rung, ...]:
    """Return sizes with depth d, width ``width_per_depth`` d and d heads, ascending. The official ladder has 64.

    Raises:
        InputError: there is no depth, a depth is below 1 or occurs twice, or the width is below 1.
    """
    if not depths or min(depths) < 1:
        raise InputError(f"depths must be one or more integers of at least 1, not {list(depths)}")
    if len(set(depths)) < len(depths):
        raise InputError(f"depths must differ, not {list(depths)}")
    if width_per_depth < 1:
        raise InputError(f"width_per_depth must be at least 1, not {width_per_depth}")
    return tuple(Rung(depth, width_per_depth * depth) for depth in sorted(depths))
