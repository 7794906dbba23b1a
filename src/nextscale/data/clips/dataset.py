"""Clips as training examples: each is composed, rendered and captioned when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from nextscale.conditioning.prompts import duration_tag
from nextscale.data.clips.clip import SPLITS, Clip, caption, random_clip
from nextscale.data.clips.name import CLIPS
from nextscale.data.clips.render import render
from nextscale.data.content import Pixels
from nextscale.data.dataset import Example
from nextscale.data.scenes.dataset import CAPTIONS, ENDLESS, EPOCH, VALIDATION
from nextscale.data.scenes.scene import expect
from nextscale.data.scenes.sprites import Sprites, open_sprites
from nextscale.data.videos import FPS
from nextscale.errors import InputError
from nextscale.imaging.images import to_unit_range


class RenderedClip(NamedTuple):
    """A clip, its frames and its caption."""

    clip: Clip
    frames: np.ndarray
    """(T, H, W, 3) uint8."""
    caption: str


@dataclass(frozen=True)
class ClipSource:
    """The name of a data set of clips. They have no classes."""

    root: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = "clips"


class ClipDataset(Dataset[Example]):
    """Random clips of a split. A clip depends on (seed, epoch, index); the epoch matters for "train" and "all" only.

    Captions begin with the duration, if it is at least a second; see `duration_tag`.

    Args:
        frames: T, the number of frames. Motions take the whole duration.
        size: (H, W), which must be equal.
        split: one of `SPLITS`. Each has clips of its own.
        length: number of clips in an epoch.

    Raises:
        InputError: the size is not that of a square.
    """

    def __init__(
        self,
        sprites: Sprites,
        frames: int = 17,
        size: tuple[int, int] = (64, 64),
        seed: int = 0,
        split: str = "train",
        length: int = 0,
    ):
        if size[0] != size[1]:
            raise InputError(f"clips are square: expected a size such as 64, 64, not {size[0]}, {size[1]}")
        expect("split", split, SPLITS)
        self.source, self.seed, self.size, self.split = ClipSource(f"{CLIPS}{sprites.root}"), seed, size[0], split
        self.frames = frames
        self._sprites, self._inventory = sprites, sprites.inventory()
        self._length = length or (EPOCH if split in ENDLESS else VALIDATION)
        self._tag = duration_tag((frames - 1) / FPS)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the clip of (epoch, index) as a video with a caption and the label 0."""
        epoch, index = key
        rendered = self.render(epoch if self.split in ENDLESS else 0, index)
        frames = to_unit_range(torch.from_numpy(rendered.frames).permute(3, 0, 1, 2))
        return Example(Pixels(frames), 0, (), self._tag + rendered.caption)

    def render(self, epoch: int, index: int, complete: bool = False) -> RenderedClip:
        """Render the clip of (epoch, index); see `caption` for ``complete``. The caption has no duration."""
        clip, text, rng = self._describe(epoch, index, complete)
        return RenderedClip(clip, render(clip, self._sprites, rng, self.frames, self.size), text)

    def captions(self) -> Iterator[str]:
        """Return captions of the first epoch, enough for a vocabulary. Nothing is rendered."""
        return (self._tag + self._describe(0, index)[1] for index in range(min(len(self), CAPTIONS)))

    def _describe(self, epoch: int, index: int, complete: bool = False) -> tuple[Clip, str, np.random.Generator]:
        """Return a clip, its caption, and the random generator for rendering it."""
        rng = np.random.default_rng((self.seed, epoch, index, SPLITS.index(self.split)))
        clip = random_clip(rng, self.split, self._inventory)
        return clip, caption(clip, rng, complete), rng


def clip_splits(data: str, frames: int, size: tuple[int, int], seed: int) -> tuple[ClipDataset, ClipDataset]:
    """Open training and validation clips of ``clips:PATH``.

    Raises:
        InputError: there are no sprites at PATH, or the size is not that of a square.
    """
    place = data.removeprefix(CLIPS)
    if not place.strip():
        raise InputError(f"expected {CLIPS}PATH with a folder or .tar archive of emoji sprites, got {data!r}")
    sprites = open_sprites(place)
    return ClipDataset(sprites, frames, size, seed), ClipDataset(sprites, frames, size, split="val")
