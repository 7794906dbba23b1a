"""Render clips as frames."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from nextscale.data.clips.clip import Clip
from nextscale.data.clips.motions import HEIGHT, MOTIONS
from nextscale.data.scenes.render import VARIANTS, fit, paint_background, paste
from nextscale.data.scenes.sprites import Sprites, resize

SIDES = (0.34, 0.44)
"""Smallest and largest size of an object, a fraction of the side of the frames."""
WANDER = 0.06
"""Largest distance of an object's place from the middle of its way."""


def render(clip: Clip, sprites: Sprites, rng: np.random.Generator, frames: int, size: int = 64) -> np.ndarray:
    """Render a clip: (frames, size, size, 3) uint8. It depends on the clip, the sprites and ``rng``."""
    variant, mirrored = int(rng.integers(VARIANTS)), rng.random() < 0.5
    behind = paint_background(clip.background, variant, size)
    behind = behind[:, ::-1] if mirrored else behind
    motion = MOTIONS[clip.motion]
    side = rng.uniform(*SIDES)
    x, y = 0.5 + rng.uniform(-WANDER, WANDER, 2)
    if clip.motion == "jump":
        y = 0.5 + HEIGHT / 2 + rng.uniform(-WANDER, WANDER) / 2
    images = []
    for i in range(frames):
        pose = motion.pose(i / max(frames - 1, 1))
        sprite = posed(sprites, clip, round(side * pose.scale * size), pose.angle)
        height, width = sprite.shape[:2]
        left = fit(round((x + pose.x) * size - width / 2), width, size)
        top = fit(round((y + pose.y) * size - height / 2), height, size)
        image = np.array(behind, dtype=np.int32)
        paste(image, sprite, left, top)
        images.append(image.astype(np.uint8))
    return np.stack(images)


def posed(sprites: Sprites, clip: Clip, side: int, angle: float) -> np.ndarray:
    """Return the sprite of a clip's object, (h, w, 4) int32 premultiplied.

    Args:
        side: of its longer side before it is turned, in pixels.
        angle: degrees that it is turned clockwise.
    """
    if angle % 360 == 0:
        return sprites.sized(clip.object, clip.style, max(side, 1))
    image = sprites.image(clip.object, clip.style)
    diagonal = math.ceil(math.hypot(*image.size))
    square = Image.new("RGBA", (diagonal, diagonal))
    square.paste(image, ((diagonal - image.width) // 2, (diagonal - image.height) // 2))
    turned = square.rotate(-angle, Image.Resampling.BICUBIC)
    return resize(turned, max(round(side * diagonal / max(image.size)), 1))
