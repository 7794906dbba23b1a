"""Scenes as training examples: each is composed, rendered and captioned when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from nextscale.data.content import Pixels
from nextscale.data.dataset import Example
from nextscale.data.scenes.captions import caption
from nextscale.data.scenes.name import SCENES
from nextscale.data.scenes.objects import RESERVED
from nextscale.data.scenes.render import Box, compose
from nextscale.data.scenes.scene import SPLITS, Scene, expect, random_scene
from nextscale.data.scenes.sprites import Sprites, open_sprites
from nextscale.errors import InputError
from nextscale.imaging.images import to_unit_range

CLASS_NAMES = ("scenes",)
EPOCH, VALIDATION = 100_000, 1_000
"""Number of scenes in an epoch of training, and in the other splits."""
CAPTIONS = 20_000
"""Number of scenes whose captions make a vocabulary."""
ENDLESS = ("train", "all")
"""Splits with other scenes in every epoch."""


class RenderedScene(NamedTuple):
    """A scene, its image and its caption."""

    scene: Scene
    pixels: np.ndarray
    """(H, W, 3) uint8."""
    boxes: list[Box]
    caption: str


@dataclass(frozen=True)
class SceneSource:
    """The name of a data set of scenes, and its only class."""

    root: str
    class_names: tuple[str, ...] = CLASS_NAMES
    notes: tuple[str, ...] = ()


class SceneDataset(Dataset[Example]):
    """Random scenes of a split. A scene depends on (seed, epoch, index); the epoch matters in `ENDLESS` splits only.

    Args:
        size: (H, W), which must be equal.
        split: one of `SPLITS`. Each has scenes of its own. Only "all" has things in `RESERVED`.
        show: name of a thing that every scene shows, if not empty; it may be in `RESERVED`.

    Raises:
        InputError: the size is not that of a square, or there is no sprite of the thing to show.
    """

    def __init__(
        self,
        sprites: Sprites,
        size: tuple[int, int] = (64, 64),
        seed: int = 0,
        split: str = "train",
        length: int = 0,
        show: str = "",
    ):
        if size[0] != size[1]:
            raise InputError(f"scenes are square: expected an image size such as 64, 64, not {size[0]}, {size[1]}")
        expect("split", split, SPLITS)
        self.source, self.seed, self.size, self.split = SceneSource(f"{SCENES}{sprites.root}"), seed, size[0], split
        self._sprites, self._show = sprites, show
        self._inventory = sprites.inventory(reserved=split == "all" or show in RESERVED)
        if show and not any(show in names for kind in vars(self._inventory).values() for names in kind.values()):
            raise InputError(f"{sprites.root} has no sprite of {show!r}: expected the name of an object")
        self._length = length or (EPOCH if split in ENDLESS else VALIDATION)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the scene of (epoch, index) as an image with a caption and the label 0."""
        epoch, index = key
        rendered = self.render(epoch if self.split in ENDLESS else 0, index)
        return Example(as_content(rendered.pixels), 0, (), rendered.caption)

    def render(self, epoch: int, index: int, complete: bool = False) -> RenderedScene:
        """Render the scene of (epoch, index); see `caption` for ``complete``."""
        scene, text, rng = self._describe(epoch, index, complete)
        return RenderedScene(scene, *compose(scene, self._sprites, rng, self.size), text)

    def captions(self) -> Iterator[str]:
        """Return captions of the first epoch, enough for a vocabulary. Nothing is rendered."""
        return (self._describe(0, index)[1] for index in range(min(len(self), CAPTIONS)))

    def _describe(self, epoch: int, index: int, complete: bool = False) -> tuple[Scene, str, np.random.Generator]:
        """Return a scene, its caption, and the random generator for rendering it."""
        rng = np.random.default_rng((self.seed, epoch, index, SPLITS.index(self.split)))
        scene = random_scene(rng, self.split, self._inventory, self._show)
        return scene, caption(scene, rng, complete), rng


def as_content(pixels: np.ndarray) -> Pixels:
    """Return (H, W, 3) uint8 as (3, H, W) in [-1, 1]."""
    return Pixels(to_unit_range(torch.from_numpy(pixels).permute(2, 0, 1)))


def scene_splits(data: str, size: tuple[int, int], seed: int) -> tuple[SceneDataset, SceneDataset]:
    """Open training and validation scenes of ``scenes:PATH``.

    Raises:
        InputError: there are no sprites at PATH, or the size is not that of a square.
    """
    place = data.removeprefix(SCENES)
    if not place.strip():
        raise InputError(f"expected {SCENES}PATH with a folder or .tar archive of emoji sprites, got {data!r}")
    sprites = open_sprites(place)
    return SceneDataset(sprites, size, seed), SceneDataset(sprites, size, split="val")
