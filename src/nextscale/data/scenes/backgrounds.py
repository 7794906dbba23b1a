"""The backgrounds of scenes: plain colours and landscapes, with the words that captions use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nextscale.data.scenes import landscapes
from nextscale.data.scenes.raster import Colour, Raster, shade

PLAIN_JITTER = 0.03
"""Largest relative difference between the brightness of a plain background and that of its colour."""


@dataclass(frozen=True)
class Background:
    """What is behind the objects."""

    name: str
    phrases: tuple[str, ...]
    """Words that follow an object in a caption: ``on grass``."""
    paint: Callable[[np.random.Generator, int], Raster]
    """Function (random generator, size) -> raster."""
    ground: float | None = None
    """Height at which objects stand, a fraction of the side from the top; None if they float."""
    shadow: bool = True
    """Whether objects that stand on the ground have a shadow."""


COLOURS: Mapping[str, Colour] = {
    "white": (250, 250, 250),
    "black": (24, 24, 28),
    "grey": (158, 160, 166),
    "red": (222, 84, 84),
    "orange": (250, 166, 84),
    "yellow": (252, 222, 110),
    "green": (124, 196, 120),
    "dark green": (32, 92, 66),
    "light blue": (164, 214, 246),
    "blue": (70, 120, 210),
    "purple": (150, 104, 196),
    "pink": (248, 182, 206),
    "brown": (140, 98, 70),
}


def plain(name: str, colour: Colour) -> Background:
    """Return a background of one colour. Its brightness is random within `PLAIN_JITTER`."""

    def paint(rng: np.random.Generator, size: int) -> Raster:
        return Raster(size, shade(colour, 1 + PLAIN_JITTER * rng.uniform(-1, 1)))

    phrases = (
        f"on a {name} background",
        f"on {name}",
        f"in front of a {name} wall",
        f"against a plain {name} background",
    )
    if name[0] in "aeiou":
        phrases = tuple(phrase.replace(f" a {name}", f" an {name}") for phrase in phrases)
    return Background(name, phrases, paint)


_LANDSCAPES = (
    Background("grass", ("on grass", "on a meadow", "in the grass", "on a green lawn"), landscapes.grass, 0.84),
    Background("beach", ("on a beach", "at the beach", "on the sand by the sea"), landscapes.beach, 0.86),
    Background("snow", ("in the snow", "on snow", "in a snowy landscape"), landscapes.snow, 0.86),
    Background("desert", ("in the desert", "in a desert", "among sand dunes"), landscapes.desert, 0.86),
    Background("moon", ("on the moon", "on the surface of the moon"), landscapes.moon, 0.86),
    Background("night", ("at night", "under the night sky", "in the dark of night"), landscapes.night, 0.88),
    Background("road", ("on a road", "on the street", "on a country road"), landscapes.road, 0.88),
    Background("sea", ("at sea", "on the sea", "on the ocean"), landscapes.sea, 0.84, shadow=False),
    Background("forest", ("in a forest", "in the woods", "in front of a forest"), landscapes.forest, 0.88),
    Background("room", ("in a room", "indoors", "inside a room"), landscapes.room, 0.9),
    Background("city", ("in a city", "in the city", "in front of a skyline"), landscapes.city, 0.9),
    Background("underwater", ("underwater", "under water", "at the bottom of the sea"), landscapes.underwater),
    Background("space", ("in space", "in outer space", "among the stars"), landscapes.space),
    Background("sunset", ("at sunset", "in the evening", "at dusk"), landscapes.sunset, 0.88),
    Background("mountains", ("in the mountains", "in front of mountains"), landscapes.mountains, 0.88),
)
BACKGROUNDS: Mapping[str, Background] = {
    background.name: background for background in (*(plain(*item) for item in COLOURS.items()), *_LANDSCAPES)
}
PLAIN = tuple(COLOURS)
LANDSCAPES = tuple(background.name for background in _LANDSCAPES)
