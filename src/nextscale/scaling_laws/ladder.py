"""A ladder of sizes: transformers of the same proportions, from small to large (VAR, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nextscale.errors import InputError

OFFICIAL_WIDTH = 64
"""Width for each block, and of each head, of the official models."""


@dataclass(frozen=True)
class Rung:
    """One size. As many heads as blocks, so that all rungs have heads of one dimension."""

    depth: int
    width: int

    @property
    def heads(self) -> int:
        return self.depth

    @property
    def name(self) -> str:
        """``d03``."""
        return f"d{self.depth:02d}"

    def learning_rate(self, base: float, base_width: int, power: float) -> float:
        """base * (base_width / width)^power: 0.5 lets wide models learn more slowly, 0 all alike."""
        return base * (base_width / self.width) ** power


def make_ladder(depths: Sequence[int], width_per_depth: int = OFFICIAL_WIDTH) -> tuple[Rung, ...]:
    """depth d, width ``width_per_depth`` d, d heads, from small to large. The official ladder has 64.

    Raises:
        InputError: no depth, one below 1, or one twice; or a width below 1.
    """
    if not depths or min(depths) < 1:
        raise InputError(f"depths must be one or more integers of at least 1, not {list(depths)}")
    if len(set(depths)) < len(depths):
        raise InputError(f"depths must differ, not {list(depths)}")
    if width_per_depth < 1:
        raise InputError(f"width_per_depth must be at least 1, not {width_per_depth}")
    return tuple(Rung(depth, width_per_depth * depth) for depth in sorted(depths))
