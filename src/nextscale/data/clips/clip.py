"""What a clip shows, random clips, and their captions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nextscale.data.clips.motions import MOTIONS
from nextscale.data.scenes.backgrounds import BACKGROUNDS, LANDSCAPES, PLAIN
from nextscale.data.scenes.captions import CANONICAL, NO_PLACE, NO_STYLE, STYLES, noun_phrase
from nextscale.data.scenes.objects import THINGS
from nextscale.data.scenes.placing import CLASHES
from nextscale.data.scenes.scene import IN_LANDSCAPE, Inventory, expect, pick
from nextscale.io.fingerprint import name_fraction

SPLITS = ("train", "val", "held-out", "all")
"""Clips of train and val have no held-out combination, those of held-out have one, and those of all may have one."""
LOST = 0.1
"""Fraction of the pairs of an object and a motion that are held out."""


@dataclass(frozen=True)
class Clip:
    """An object that moves in front of a background."""

    background: str
    style: str
    object: str
    """A name of `THINGS`."""
    motion: str
    """A name of `MOTIONS`."""

    def __post_init__(self) -> None:
        known: tuple[tuple[str, Collection[str]], ...] = (
            ("background", BACKGROUNDS),
            ("style", STYLES),
            ("object", THINGS),
            ("motion", MOTIONS),
        )
        for name, names in known:
            expect(name, getattr(self, name), names)


def is_held_out(clip: Clip) -> bool:
    """Return whether training never shows the object of a clip in this motion."""
    return name_fraction(f"{clip.object} in motion: {clip.motion}") < LOST


def random_clip(rng: np.random.Generator, split: str, inventory: Inventory) -> Clip:
    """Return a random clip.

    Args:
        split: one of `SPLITS`.
        inventory: the objects to choose from.
    """
    expect("split", split, SPLITS)
    while True:
        style = pick(rng, inventory.styles)
        background = pick(rng, LANDSCAPES if rng.random() < IN_LANDSCAPE else PLAIN)
        clip = Clip(background, style, pick(rng, inventory.objects[style]), pick(rng, tuple(MOTIONS)))
        if clip.object in CLASHES.get(background, frozenset()):
            continue
        if split == "all" or is_held_out(clip) == (split == "held-out"):
            return clip


def caption(clip: Clip, rng: np.random.Generator, complete: bool = False) -> str:
    """Return a random caption of a clip: ``a flat dog jumps on grass``.

    Args:
        complete: name the style and the background, which other captions sometimes leave out.
    """
    style = "" if not complete and rng.random() < NO_STYLE else pick(rng, STYLES[clip.style])
    place = "" if not complete and rng.random() < NO_PLACE else pick(rng, BACKGROUNDS[clip.background].phrases)
    verbs = MOTIONS[clip.motion].verbs
    verb = verbs[0] if rng.random() < CANONICAL else pick(rng, verbs)
    return " ".join(words for words in (noun_phrase(clip.object, 1, "", style, rng), verb, place) if words)
