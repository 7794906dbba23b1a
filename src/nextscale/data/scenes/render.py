"""Render scenes as images."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.layout import place
from nextscale.data.scenes.raster import FINER
from nextscale.data.scenes.scene import Scene
from nextscale.data.scenes.sprites import Sprites

VARIANTS = 64
"""Number of images of each background. They are painted when they are first needed, and may be mirrored."""
DARKNESS = 90
"""Opacity of shadows, of 255."""


class Box(NamedTuple):
    """An object in a rendered scene: its name and its bounding box in pixels."""

    name: str
    left: int
    top: int
    right: int
    bottom: int


def render(scene: Scene, sprites: Sprites, rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """Render a scene: (size, size, 3) uint8. It depends on the scene, the sprites and ``rng``."""
    return compose(scene, sprites, rng, size)[0]


def compose(scene: Scene, sprites: Sprites, rng: np.random.Generator, size: int = 64) -> tuple[np.ndarray, list[Box]]:
    """Render a scene, and return the boxes of its objects as well. See `render`."""
    background = BACKGROUNDS[scene.background]
    variant, mirrored = int(rng.integers(VARIANTS)), rng.random() < 0.5
    behind = paint_background(scene.background, variant, size)
    image = np.array(behind[:, ::-1] if mirrored else behind, dtype=np.int32)
    boxes = []
    for spot in place(scene, rng):
        sprite = sprites.sized(spot.name, scene.style, round(spot.side * size))
        height, width = sprite.shape[:2]
        bottom = round(spot.y * size) if spot.stands else round(spot.y * size + height / 2)
        left, top = fit(round(spot.x * size - width / 2), width, size), fit(bottom - height, height, size)
        if spot.stands and background.shadow:
            dark = shadow(width)
            paste(image, dark, left + (width - dark.shape[1]) // 2, top + height - dark.shape[0] // 2 - 1)
        paste(image, sprite, left, top)
        boxes.append(Box(spot.name, left, top, left + width, top + height))
    return image.astype(np.uint8), boxes


def fit(start: int, length: int, size: int) -> int:
    """Move an interval into [0, size) if it fits."""
    return max(min(start, size - length), 0)


def paste(image: np.ndarray, sprite: np.ndarray, left: int, top: int) -> None:
    """Blend a premultiplied sprite into an image in place. Parts outside the image are cut off."""
    below, right = image.shape[0] - top, image.shape[1] - left
    sprite = sprite[max(-top, 0) : max(below, 0), max(-left, 0) : max(right, 0)]
    top, left = max(top, 0), max(left, 0)
    part = image[top : top + sprite.shape[0], left : left + sprite.shape[1]]
    part[...] = sprite[..., :3] + (part * (255 - sprite[..., 3:]) + 127) // 255


@lru_cache(maxsize=4096)
def paint_background(name: str, variant: int, size: int) -> np.ndarray:
    """Paint a background: (size, size, 3) uint8."""
    rng = np.random.default_rng((variant, *name.encode()))
    return BACKGROUNDS[name].paint(rng, size).pixels()


@lru_cache(maxsize=256)
def shadow(width: int) -> np.ndarray:
    """Return the shadow of an object on the ground, premultiplied: (h, w, 4) int32."""
    wide, tall = max(round(width * 0.9), 3), max(round(width * 0.2), 3)
    y, x = np.mgrid[0 : tall * FINER, 0 : wide * FINER] + 0.5
    distance = np.hypot(x / (wide * FINER / 2) - 1, y / (tall * FINER / 2) - 1)
    inside = (DARKNESS * np.clip(1.6 * (1 - distance), 0, 1)).reshape(tall, FINER, wide, FINER).mean((1, 3))
    result = np.zeros((tall, wide, 4), dtype=np.int32)
    result[..., 3] = inside.round()
    return result
