"""Captions of scenes in many wordings. A caption never says anything that its scene does not show."""

from __future__ import annotations

import numpy as np

from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.nouns import article, plural
from nextscale.data.scenes.objects import THINGS
from nextscale.data.scenes.scene import Scene, pick

STYLES = {
    "3d": ("3d", "3d", "glossy 3d", "shaded 3d"),
    "flat": ("flat", "flat", "flat vector", "simple flat"),
    "noto": ("noto", "noto", "cartoon", "noto cartoon"),
}
COUNTS = {
    1: ("a", "a", "a", "one"),
    2: ("two", "two", "2", "a pair of"),
    3: ("three", "three", "3"),
    4: ("four", "four", "4"),
}
SIZES = {"small": ("small", "tiny", "little"), "medium": ("",), "large": ("large", "big", "huge")}
RELATIONS = {
    "left of": ("{a} left of {b}", "{a} to the left of {b}", "{a} on the left and {b} on the right"),
    "right of": ("{a} right of {b}", "{a} to the right of {b}", "{a} on the right and {b} on the left"),
    "above": ("{a} above {b}", "{a} over {b}", "{b} with {a} above it"),
    "below": ("{a} below {b}", "{a} under {b}", "{a} beneath {b}"),
    "flying over": ("{a} flying over {b}", "{a} flying above {b}", "{a} that flies over {b}"),
}
PICTURES = ("picture", "image", "picture", "emoji scene")
NO_STYLE, NO_PLACE, CANONICAL = 0.1, 0.06, 0.4
"""Fractions of captions without style, without background, and with the main name of an object and no synonym."""


def caption(scene: Scene, rng: np.random.Generator, complete: bool = False) -> str:
    """Return a random caption of a scene.

    Args:
        complete: name the style and the background, which other captions sometimes leave out.
    """
    style = "" if not complete and rng.random() < NO_STYLE else pick(rng, STYLES[scene.style])
    place = "" if not complete and rng.random() < NO_PLACE else pick(rng, BACKGROUNDS[scene.background].phrases)
    form = rng.random()
    beside = style if form < 0.5 else ""  # as an adjective of the objects
    text = subject(scene, beside, rng)
    first = bool(place) and form > 0.1 and rng.random() < 0.08
    before, after = (f"{place}, ", "") if first else ("", f" {place}" if place else "")
    if not style or beside:
        return f"{before}{text}{after}"
    if form < 0.65:
        return f"{before}{text}{after}, {style} style"
    if form < 0.8:
        return f"{before}{text}{after} in {style} style"
    return f"{before}{article(style)} {style} {pick(rng, PICTURES)} of {text}{after}"


def subject(scene: Scene, style: str, rng: np.random.Generator) -> str:
    """Return the objects of a scene in words: ``two 3d dogs``, ``a flat cat left of a flat tree``."""
    if not scene.relation:
        return noun_phrase(scene.objects[0], scene.count, pick(rng, SIZES[scene.size]), style, rng)
    a, b = (noun_phrase(name, 1, "", style, rng) for name in scene.objects)
    return pick(rng, RELATIONS[scene.relation]).format(a=a, b=b)


def noun_phrase(name: str, count: int, size: str, style: str, rng: np.random.Generator) -> str:
    """Return an object in words: ``a small 3d dog``, ``two puppies``."""
    noun = name if rng.random() < CANONICAL else pick(rng, THINGS[name].names)
    noun = noun if count == 1 else plural(noun)
    words = " ".join(word for word in (size, style, noun) if word)
    number = pick(rng, COUNTS[count])
    return f"{article(words) if number == 'a' else number} {words}"
