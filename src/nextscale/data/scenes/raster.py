"""A raster to paint landscapes on: edges are antialiased by painting larger and averaging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

FINER = 4
"""A raster is painted this many times larger than its result."""
Colour = tuple[float, float, float]


class Raster:
    """A square image to paint on. Positions and lengths are fractions of its side, from the top left corner."""

    def __init__(self, size: int, top: Colour, bottom: Colour | None = None):
        """Fill the raster with a colour, or with a vertical gradient."""
        self.size, self.side = size, size * FINER
        self.image = Image.fromarray(gradient(self.side, self.side, top, bottom or top))
        self._brush = ImageDraw.Draw(self.image)

    def band(self, start: float, end: float, top: Colour, bottom: Colour | None = None) -> None:
        """Fill the rows from ``start`` to ``end`` with a colour or a gradient."""
        first, last = round(start * self.side), round(end * self.side)
        if last > first:
            self.image.paste(Image.fromarray(gradient(last - first, self.side, top, bottom or top)), (0, first))

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        self._brush.polygon([(x * self.side, y * self.side) for x, y in points], fill=whole(colour))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Paint an ellipse around (x, y)."""
        box = [(x - rx) * self.side, (y - ry) * self.side, (x + rx) * self.side, (y + ry) * self.side]
        self._brush.ellipse(box, fill=whole(colour))

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        box = [left * self.side, top * self.side, right * self.side - 1, bottom * self.side - 1]
        if box[2] >= box[0] and box[3] >= box[1]:
            self._brush.rectangle(box, fill=whole(colour))

    def hills(self, heights: np.ndarray, colour: Colour, base: float = 1.0) -> None:
        """Fill the area between a line and ``base``. ``heights`` are the y of the line at evenly spaced x."""
        xs = np.linspace(0, 1, len(heights))
        self.polygon([(0, base), *zip(xs.tolist(), heights.tolist(), strict=True), (1, base)], colour)

    def pixels(self) -> np.ndarray:
        """Return the image: (size, size, 3) uint8."""
        return np.asarray(self.image.resize((self.size, self.size), Image.Resampling.BOX))


def gradient(height: int, width: int, top: Colour, bottom: Colour) -> np.ndarray:
    """Return a vertical gradient: (height, width, 3) uint8."""
    weight = np.linspace(0, 1, height)[:, None]
    rows = np.array(top) * (1 - weight) + np.array(bottom) * weight
    return np.repeat(rows[:, None].round().clip(0, 255).astype(np.uint8), width, axis=1)


def whole(colour: Colour) -> tuple[int, int, int]:
    """Return a colour in whole numbers from 0 to 255."""
    red, green, blue = (min(max(round(part), 0), 255) for part in colour)
    return red, green, blue


def waves(rng: np.random.Generator, level: float, height: float, turns: float = 1.5, points: int = 65) -> np.ndarray:
    """Return the y of a wavy line around ``level``, which differs from it by at most ``height``: (points,)."""
    xs = np.linspace(0, 2 * np.pi, points)
    phases = rng.uniform(0, 2 * np.pi, 2)
    line = 0.7 * np.sin(turns * xs + phases[0]) + 0.3 * np.sin(2.3 * turns * xs + phases[1])
    return level + height * line


def shade(colour: Colour, factor: float) -> Colour:
    """Return a darker (below 1) or lighter (above 1) colour."""
    red, green, blue = colour
    return red * factor, green * factor, blue * factor
