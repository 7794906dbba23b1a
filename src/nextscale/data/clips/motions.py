"""How an object moves in a clip, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

FAR = 0.26
"""Distance from the middle at which objects that cross the image begin and end, a fraction of its side."""
HEIGHT, JUMPS = 0.3, 2
"""Height of a jump, and the number of jumps in a clip."""
SMALL = 0.45
"""Smallest size of an object that grows or shrinks, a fraction of its largest one."""


class Pose(NamedTuple):
    """An object in a frame."""

    x: float = 0.0
    """Distance of its middle from its place, to the right, a fraction of the side of the image."""
    y: float = 0.0
    """The same, downwards."""
    scale: float = 1.0
    """Its size, a fraction of the largest one."""
    angle: float = 0.0
    """Degrees that it is turned clockwise."""


class Motion(NamedTuple):
    """A kind of motion."""

    verbs: tuple[str, ...]
    """Words that follow an object in a caption, the main ones first."""
    pose: Callable[[float], Pose]
    """The pose at a time between 0 (first frame) and 1 (last frame)."""


def line(dx: float, dy: float) -> Callable[[float], Pose]:
    """Return the motion along a straight line through the middle, in the direction (dx, dy)."""
    return lambda time: Pose(dx * FAR * (2 * time - 1), dy * FAR * (2 * time - 1))


MOTIONS: Mapping[str, Motion] = {
    "left": Motion(("moves left", "moves to the left", "goes left", "slides to the left"), line(-1, 0)),
    "right": Motion(("moves right", "moves to the right", "goes right", "slides to the right"), line(1, 0)),
    "up": Motion(("rises", "moves up", "goes up"), line(0, -1)),
    "down": Motion(("falls", "moves down", "goes down"), line(0, 1)),
    "jump": Motion(
        ("jumps", "hops", "jumps up and down"), lambda time: Pose(y=-HEIGHT * abs(math.sin(JUMPS * math.pi * time)))
    ),
    "grow": Motion(("grows", "gets bigger", "becomes larger"), lambda time: Pose(scale=SMALL + (1 - SMALL) * time)),
    "shrink": Motion(("shrinks", "gets smaller", "becomes smaller"), lambda time: Pose(scale=1 - (1 - SMALL) * time)),
    "spin": Motion(("spins", "spins around", "rotates"), lambda time: Pose(angle=360 * time)),
}
"""Motions by name."""
