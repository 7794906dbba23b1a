"""Hold out images for validation, if a data set has no validation images.

The name of an image decides whether it is held out. The same images are therefore held out by all commands, and adding
images does not move others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nextscale.data.captions import captioned
from nextscale.data.source import ClassSource, ImageSource, Splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import printable
from nextscale.io.fingerprint import name_fraction

VAL_FRACTION = 0.05
"""Fraction of the images to hold out by default."""


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """The settings of all commands that divide a data set into training and validation images."""

    val_fraction: float | None = None
    """Fraction of the images to hold out for validation, if the data has no validation images (no val/). The names of
    the images decide which are held out, so that all commands hold out the same ones. 0 holds out none. Default:
    the value of the training run that is resumed or evaluated; 0.05 if there is no such run."""

    def __post_init__(self) -> None:
        if self.val_fraction is not None:
            check_fraction(self.val_fraction)

    def fraction(self, divided: bool = True) -> float:
        """Return the fraction to hold out. The default is `VAL_FRACTION`, or 0 if the data is not to be divided."""
        default = VAL_FRACTION if divided else 0.0
        return default if self.val_fraction is None else self.val_fraction


@dataclass(frozen=True, eq=False)
class PartOfImages:
    """Some of the images of a data set.

    Attributes:
        chosen: their numbers in the data set, in order.
        fraction: the fraction of the data set that is held out for validation.
    """

    source: ImageSource
    chosen: tuple[int, ...]
    labels: tuple[int, ...]
    fraction: float
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> Path | str:
        return self.source.root

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def __len__(self) -> int:
        return len(self.chosen)

    def name(self, index: int) -> str:
        return self.source.name(self.chosen[index])

    def key(self, index: int) -> str:
        return self.source.key(self.chosen[index])

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        return self.source.stamp(self.chosen if chosen is None else [self.chosen[i] for i in chosen])

    def read(self, index: int) -> Image.Image:
        return self.source.read(self.chosen[index])

    def ratio(self, index: int) -> float:
        return self.source.ratio(self.chosen[index])

    def file(self, index: int) -> Path:
        """Return the path of a video; see `nextscale.data.videos.VideoFiles`."""
        return self.source.file(self.chosen[index])  # type: ignore[attr-defined]

    @property
    def kind(self) -> str:
        """What the data set consists of, for messages."""
        return getattr(self.source, "kind", "images")

    def captions(self, index: int) -> Sequence[str]:
        return captioned(self.source).captions(self.chosen[index])


def hold_out(splits: Splits, fraction: float) -> Splits:
    """Divide the training images of a data set without validation images.

    An image is held out if `name_fraction` of its key is below ``fraction``. Every class keeps at least one image for
    training. If no readable image has a name below the fraction, the one with the lowest number is held out. If every
    class has one image only, none is held out, and the splits are returned unchanged.

    Args:
        fraction: in [0, 1). 0 returns the splits unchanged.

    Raises:
        InputError: the fraction is out of range.
    """
    check_fraction(fraction)
    train, val = splits
    chosen = choose(train, fraction) if val is None and fraction else frozenset()
    if not chosen:
        return splits
    note = (
        f"{printable(str(train.root))} has no validation images: {len(chosen)} of its {len(train)} images are held out "
        f"for validation, chosen by their names ({fraction:.3g} of all; --val-fraction 0 turns this off)"
    )
    numbers = [tuple(i for i in range(len(train)) if (i in chosen) == held_out) for held_out in (False, True)]
    rest, ours = (tuple(train.labels[i] for i in part) for part in numbers)
    return (
        PartOfImages(train, numbers[0], rest, fraction, (*train.notes, note)),
        PartOfImages(train, numbers[1], ours, fraction),
    )


def choose(source: ImageSource, fraction: float) -> frozenset[int]:
    """Return the numbers of the images to hold out; see `hold_out`."""
    ranks = [name_fraction(source.key(i)) for i in range(len(source))]
    classes: dict[int, list[int]] = {}
    for i in sorted(range(len(source)), key=ranks.__getitem__):
        classes.setdefault(source.labels[i], []).append(i)
    able = [i for members in classes.values() for i in members[:-1]]  # without one image of each class
    chosen = [i for i in able if ranks[i] < fraction]
    if not any(is_readable(source, i) for i in chosen):
        others = sorted((i for i in able if ranks[i] >= fraction), key=ranks.__getitem__)
        first = next((i for i in others if is_readable(source, i)), None)
        chosen = [] if first is None else [*chosen, first]
    return frozenset(chosen)


def is_readable(source: ImageSource, index: int) -> bool:
    """Return whether an image can be read."""
    try:
        source.read(index)
    except InputError:
        return False
    return True


def held_out_fraction(source: ClassSource) -> float:
    """Return the fraction of a data set that was held out from these training images; 0 if nothing was."""
    return source.fraction if isinstance(source, PartOfImages) else 0.0


def check_fraction(fraction: float) -> None:
    """Raise InputError unless a fraction is in [0, 1)."""
    if not isinstance(fraction, int | float) or not (math.isfinite(fraction) and 0 <= fraction < 1):
        raise InputError(f"val_fraction must be at least 0 and below 1, not {fraction!r}")
