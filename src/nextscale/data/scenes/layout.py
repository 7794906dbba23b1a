"""Where the objects of a scene lie and how large they are. The sides of an image have length 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.placing import FLYING
from nextscale.data.scenes.scene import Scene

ALONE = {"small": (0.32, 0.38), "medium": (0.48, 0.6), "large": (0.7, 0.82)}
"""Limits of the longer side of an object that is alone, by its size."""
SIDE = {2: (0.4, 0.46), 3: (0.35, 0.4), 4: (0.34, 0.4)}
"""Limits of the longer side of each object, by the number of objects. 0.34 is 22 of 64 pixels."""
EDGE = 0.015
"""Smallest distance between an object and the edge of the image."""


@dataclass(frozen=True)
class Spot:
    """A place for an object: the centre of its bounding box, or the middle of its lower side if it stands."""

    name: str
    x: float
    y: float
    side: float
    """Length of the longer side."""
    stands: bool = False


def place(scene: Scene, rng: np.random.Generator) -> list[Spot]:
    """Return the places of the objects of a scene, from the back to the front."""
    if scene.arrangement:
        axis, first, second = scene.arrangement
        return in_row(scene, (first, second), rng) if axis == "row" else in_column(scene, (first, second), rng)
    name = scene.objects[0]
    if scene.count == 1:
        return [alone(scene, name, rng)]
    if scene.count == 2:
        return in_row(scene, (name, name), rng)
    return in_group(scene, name, rng)


def alone(scene: Scene, name: str, rng: np.random.Generator) -> Spot:
    """Return a place for the only object: on the ground, in the air, or about the middle."""
    ground = BACKGROUNDS[scene.background].ground
    side = rng.uniform(*ALONE[scene.size])
    half = side / 2 + EDGE
    free = max(0.5 - half, 0)
    x = 0.5 + rng.uniform(-1, 1) * min(free, 0.24)
    if ground is None:
        return Spot(name, x, 0.5 + rng.uniform(-1, 1) * min(free, 0.12), side)
    if name in FLYING:
        return Spot(name, x, max(rng.uniform(0.3, 0.42), half), side)
    return Spot(name, x, max(ground + rng.uniform(-0.04, 0.05), side + EDGE), side, stands=True)


def in_row(scene: Scene, names: tuple[str, str], rng: np.random.Generator) -> list[Spot]:
    """Return places for two objects from left to right."""
    ground = BACKGROUNDS[scene.background].ground
    side = rng.uniform(*SIDE[2])
    xs = 0.5 + np.array((-0.25, 0.25)) + rng.uniform(-1, 1, 2) * (0.25 - side / 2 - EDGE / 2)
    level = rng.uniform(0.44, 0.56) if ground is None else ground
    ys = level + rng.uniform(-0.05, 0.05, 2)
    return [Spot(name, x, y, side, ground is not None) for name, x, y in zip(names, xs, ys, strict=True)]


def in_column(scene: Scene, names: tuple[str, str], rng: np.random.Generator) -> list[Spot]:
    """Return places for two objects, one above the other."""
    ground = BACKGROUNDS[scene.background].ground
    side = rng.uniform(*SIDE[2])
    middle = rng.uniform(0.42, 0.58)
    xs = middle + rng.uniform(-0.12, 0.12, 2)
    upper = Spot(names[0], xs[0], side / 2 + rng.uniform(EDGE, 0.05), side)
    if ground is None:
        return [upper, Spot(names[1], xs[1], 1 - side / 2 - rng.uniform(EDGE, 0.05), side)]
    return [upper, Spot(names[1], xs[1], max(ground + rng.uniform(0, 0.08), 2 * side + 0.05), side, stands=True)]


def in_group(scene: Scene, name: str, rng: np.random.Generator) -> list[Spot]:
    """Return places for three objects in a triangle or four in a square."""
    side = rng.uniform(*SIDE[scene.count])
    near = side / 2 + 0.02
    apart = rng.uniform(near, 0.5 - side / 2 - EDGE)
    upper, lower = 0.5 - apart, 0.5 + apart
    if scene.count == 4:
        centres = [(0.5 - apart, upper), (0.5 + apart, upper), (0.5 - apart, lower), (0.5 + apart, lower)]
    else:
        odd = 0.5 + rng.uniform(-0.06, 0.06)
        pair = upper if BACKGROUNDS[scene.background].ground is None and rng.random() < 0.5 else lower
        other = upper if pair == lower else lower
        centres = sorted([(odd, other), (0.5 - apart, pair), (0.5 + apart, pair)], key=lambda centre: centre[1])
    wiggle = min(apart - side / 2, 0.5 - side / 2 - apart, 0.03)
    return [
        Spot(name, x, y, side) for x, y in np.array(centres) + rng.uniform(-1, 1, (scene.count, 2)) * max(wiggle, 0)
    ]
