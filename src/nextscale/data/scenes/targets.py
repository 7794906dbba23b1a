"""Targets of a reader of scenes: style, background, and each object with its place, packed into one integer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nextscale.data.dataset import Example
from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.dataset import RenderedScene, SceneDataset, as_content
from nextscale.data.scenes.objects import STYLES, THINGS
from nextscale.data.scenes.scene import COUNTS

GRID = 8
"""Places are cells of a grid of GRID x GRID."""
OBJECTS = max(COUNTS)
NAMES, PLACES = tuple(THINGS), tuple(BACKGROUNDS)
RADICES = (len(STYLES), len(PLACES), *[1 + len(NAMES) * GRID**2] * OBJECTS)
"""Number of values of each item of a target: style, background, and four objects, where 0 is none."""
_NUMBERS = {name: number for number, name in enumerate(NAMES)}


class ReadableScenes(Dataset[Example]):
    """Scenes whose labels are packed targets; see `target` and `pack`."""

    def __init__(self, scenes: SceneDataset):
        self.scenes, self.source, self.seed = scenes, scenes.source, scenes.seed

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        rendered = self.scenes.render(*key)
        return Example(as_content(rendered.pixels), pack(target(rendered)), ())


def target(rendered: RenderedScene) -> list[int]:
    """Return the style, the background, and for each object 1 + its number * GRID^2 + the cell of its centre."""
    side = len(rendered.pixels)
    objects = []
    for box in rendered.boxes:
        row, column = ((a + b) * GRID // (2 * side) for a, b in ((box.top, box.bottom), (box.left, box.right)))
        objects.append(1 + _NUMBERS[box.name] * GRID**2 + row * GRID + column)
    background = PLACES.index(rendered.scene.background)
    return [STYLES.index(rendered.scene.style), background, *objects, *[0] * (OBJECTS - len(objects))]


def pack(items: Sequence[int]) -> int:
    """Return one integer for the items of a target."""
    number = 0
    for item, radix in zip(items, RADICES, strict=True):
        number = number * radix + item
    return number


def unpack(labels: Tensor) -> Tensor:
    """Return the items of targets. (B,) int64 -> (B, 2 + OBJECTS) int64."""
    items = []
    for radix in reversed(RADICES):
        items.append(labels % radix)
        labels = labels // radix
    return torch.stack(items[::-1], dim=1)
