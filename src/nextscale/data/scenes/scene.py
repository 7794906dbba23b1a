"""What a scene shows, and random scenes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from nextscale.data.scenes.backgrounds import BACKGROUNDS, LANDSCAPES, PLAIN
from nextscale.data.scenes.objects import OBJECTS, RESERVED, SINGLES, STYLES, THINGS
from nextscale.data.scenes.placing import CLASHES, FLYING
from nextscale.errors import InputError
from nextscale.io.fingerprint import name_fraction

RELATIONS = ("left of", "right of", "above", "below", "flying over")
SIZES = ("small", "medium", "large")
COUNTS = (1, 2, 3, 4)
SPLITS = ("train", "val", "held-out", "all")
"""Scenes of train and val have no held-out combination, those of held-out have one, and those of all may have one."""
LOST_STYLE, LOST_PAIR = 0.25, 0.1
"""Fraction of the objects that have a held-out style, and of the ordered pairs of objects that are held out."""
SINGLE, ONE, SEVERAL = 0.08, 0.28, 0.26
"""Fractions of random scenes with one of `SINGLES`, with one object, and with one object several times. The others
have two objects."""
IN_LANDSCAPE, FLIES = 0.65, 0.4
"""Fraction of scenes with a landscape, and of scenes with one object above another in which it flies."""


@dataclass(frozen=True)
class Scene:
    """One or more objects of one kind, or two objects and their relation, in front of a background."""

    background: str
    style: str
    objects: tuple[str, ...]
    """One name or two names of `THINGS`."""
    count: int = 1
    """How many times the only object is shown, 1 to 4."""
    relation: str = ""
    """How the first object lies relative to the second one; empty for one object."""
    size: str = "medium"
    """Size of an object that is alone."""

    def __post_init__(self) -> None:
        expect("background", self.background, BACKGROUNDS)
        expect("style", self.style, STYLES)
        expect("count", self.count, COUNTS)
        expect("size", self.size, SIZES)
        for name in self.objects:
            expect("object", name, THINGS)
        if len(self.objects) == 2:
            expect("relation", self.relation, RELATIONS)
        if len(self.objects) not in (1, 2) or len(set(self.objects)) < len(self.objects):
            raise InputError(f"a scene has one object or two different ones, not {self.objects}")
        if (len(self.objects) == 1 and self.relation) or (len(self.objects) == 2 and self.count > 1):
            raise InputError(f"a scene with {self.objects} cannot have count {self.count} and {self.relation!r}")

    @property
    def arrangement(self) -> tuple[str, str, str] | None:
        """Return ``row`` or ``column`` and the two objects from left to right or from top to bottom, else None."""
        if not self.relation:
            return None
        first, second = self.objects
        axis = "row" if self.relation in ("left of", "right of") else "column"
        return (axis, second, first) if self.relation in ("right of", "below") else (axis, first, second)


def expect(what: str, value: object, known: Collection[object]) -> None:
    """Raise InputError if a value is not one of the known ones."""
    if value not in known:
        names = list(known)
        listed = ", ".join(map(str, names[:12])) + (", ..." if len(names) > 12 else "")
        raise InputError(f"unknown {what} {value!r} in a scene: expected one of {listed}")


@cache
def held_out_style(name: str) -> str | None:
    """Return the style in which training never shows an object, or None. Every object keeps the other styles."""
    fraction = name_fraction(f"style of {name}")
    return STYLES[int(fraction / LOST_STYLE * len(STYLES))] if name in OBJECTS and fraction < LOST_STYLE else None


def is_held_out(scene: Scene) -> bool:
    """Return whether a scene has a combination that training never shows.

    It is an object in its `held_out_style`, or two objects in an order, such as a dog left of a cat. A caption may
    express the order in two ways: a cat right of a dog is held out as well.
    """
    if any(held_out_style(name) == scene.style for name in scene.objects):
        return True
    return scene.arrangement is not None and name_fraction(" ".join(scene.arrangement)) < LOST_PAIR


@dataclass(frozen=True)
class Inventory:
    """The things that random scenes show."""

    objects: Mapping[str, tuple[str, ...]]
    """For each style, the names in `OBJECTS` that have a sprite."""
    singles: Mapping[str, tuple[str, ...]]
    """For each style, the names in `SINGLES` that have a sprite."""

    @classmethod
    def of(cls, has: Callable[[str, str], bool], reserved: bool = False) -> Inventory:
        """Return the inventory of all names and styles for which ``has`` returns true.

        Args:
            reserved: include the names in `RESERVED` among the objects.
        """
        objects, singles = (
            {style: tuple(name for name in names if has(name, style)) for style in STYLES}
            for names in ((*OBJECTS, *(RESERVED if reserved else ())), SINGLES)
        )
        return cls(objects, singles)

    @property
    def styles(self) -> tuple[str, ...]:
        """Return the styles that have an object."""
        return tuple(style for style, names in self.objects.items() if names)


EVERYTHING = Inventory.of(lambda name, style: True)


def random_scene(
    rng: np.random.Generator, split: str = "train", inventory: Inventory = EVERYTHING, show: str = ""
) -> Scene:
    """Return a random scene.

    Args:
        split: one of `SPLITS`.
        inventory: the things to choose from.
        show: name of a thing of the inventory that the scene shows, if not empty.
    """
    expect("split", split, SPLITS)
    while True:
        scene = any_scene(rng, inventory)
        if show and show not in scene.objects:
            continue
        if not CLASHES.get(scene.background, frozenset()).isdisjoint(scene.objects):
            continue
        if split == "all" or is_held_out(scene) == (split == "held-out"):
            return scene


def any_scene(rng: np.random.Generator, inventory: Inventory) -> Scene:
    """Return a random scene, which may have a held-out combination or hardly show its objects."""
    style = pick(rng, inventory.styles)
    background = pick(rng, LANDSCAPES if rng.random() < IN_LANDSCAPE else PLAIN)
    here, alone = inventory.objects[style], inventory.singles[style]
    kind = rng.random()
    if kind < SINGLE and alone:
        return Scene(background, style, (pick(rng, alone),), size=pick(rng, SIZES[1:]))
    if kind < SINGLE + ONE or len(here) == 1:
        return Scene(background, style, (pick(rng, here),), size=pick(rng, SIZES))
    if kind < SINGLE + ONE + SEVERAL:
        return Scene(background, style, (pick(rng, here),), count=int(rng.integers(2, 5)))
    first, second, relation = pick(rng, here), pick(rng, here), pick(rng, RELATIONS[:4])
    if relation == "above" and rng.random() < FLIES:
        relation = "flying over"
        first = pick(rng, [name for name in here if name in FLYING] or here)
    if first == second:
        second = here[(here.index(first) + int(rng.integers(1, len(here)))) % len(here)]
    return Scene(background, style, (first, second), relation=relation)


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Return a random option."""
    return options[int(rng.integers(len(options)))]
