"""A small network that reads scenes: which objects there are and where, the style and the background."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError, brief
from nextscale.evaluation.classifier import Block
from nextscale.io.config import LARGEST_WIDTH, check_fields
from nextscale.io.module_folder import load_module

CEILING = "reader.json"
"""The scores of a reader on real renders. It is written last, so a folder with this file is complete."""
CERTAIN = 0.5
"""Probability above which a cell of the grid holds an object."""


@dataclass(frozen=True)
class ReaderConfig:
    """The names that a reader knows, and its architecture.

    Attributes:
        objects, styles, backgrounds: the names.
        size: side of the images.
        widths: channels at 1/2, 1/4 and 1/8 of the side. The grid of places has 1/8 of the side.
        blocks: number of residual blocks at 1/4 and at 1/8 of the side.
    """

    objects: tuple[str, ...]
    styles: tuple[str, ...]
    backgrounds: tuple[str, ...]
    size: int = field(default=64, metadata={"most": 2**14})
    widths: tuple[int, ...] = field(default=(24, 48, 112), metadata={"most": LARGEST_WIDTH})
    blocks: tuple[int, ...] = (1, 3)

    def __post_init__(self) -> None:
        for name in ("objects", "styles", "backgrounds", "widths", "blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_fields(self)
        for name in ("objects", "styles", "backgrounds"):
            names = getattr(self, name)
            if not names or not all(isinstance(each, str) for each in names):
                raise InputError(f"{name} must be one or more texts, not {brief(names)}")
        if len(self.widths) != 3 or len(self.blocks) != 2:
            raise InputError(f"a reader has three widths and two numbers of blocks, not {self.widths}, {self.blocks}")
        if self.size % 8:
            raise InputError(f"the size of a reader must be a multiple of 8, not {self.size}")

    @property
    def grid(self) -> int:
        """Number of cells along a side."""
        return self.size // 8


class ReaderOutput(NamedTuple):
    """Logits of images."""

    cells: Tensor
    """(B, 1 + objects * styles, grid, grid): no object, or the object whose centre lies in the cell, in a style."""
    background: Tensor
    """(B, backgrounds)."""


class Found(NamedTuple):
    """An object that was found in an image."""

    name: str
    row: int
    column: int
    probability: float
    """How certain it is that there is an object in this cell."""


@dataclass(frozen=True)
class Reading:
    """What an image shows."""

    objects: tuple[Found, ...]
    """From the most to the least certain one."""
    style: str
    background: str


class SceneReader(nn.Module):
    """A residual network with a prediction for each cell of a grid, and one for the background.

    An object in each style is a class of its own, because a sprite is easier to recognise than a style.
    """

    def __init__(self, config: ReaderConfig):
        super().__init__()
        self.config = config
        first, second, last = config.widths
        self.stem = nn.Conv2d(3, first, 5, stride=2, padding=2, bias=False)
        pairs = [(first, second), *[(second, second)] * (config.blocks[0] - 1)]
        pairs += [(second, last), *[(last, last)] * (config.blocks[1] - 1)]
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairs)
        self.norm = nn.BatchNorm2d(last)
        self.cells = nn.Conv2d(last, 1 + len(config.objects) * len(config.styles), 1)
        self.background = nn.Linear(2 * last, len(config.backgrounds))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> SceneReader:
        """Initialize the weights as `ResidualClassifier` does. At first, nearly all cells are empty."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        for head in (self.cells, self.background):
            nn.init.normal_(head.weight, std=0.01, generator=generator)
            assert head.bias is not None
            nn.init.zeros_(head.bias)
        assert self.cells.bias is not None
        self.cells.bias[0] = 8.0
        return self

    def forward(self, images: Tensor) -> ReaderOutput:
        """(B, 3, size, size) in [-1, 1] -> logits."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.norm(x))
        whole = torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)
        return ReaderOutput(self.cells(x), self.background(whole))

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Reading]:
        """Read images (B, 3, H, W) in [-1, 1]. They are resized if their size differs. Use evaluation mode."""
        side = self.config.size
        if images.shape[2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        return readings(self.config, self(images))


def readings(config: ReaderConfig, output: ReaderOutput) -> list[Reading]:
    """Return what the logits of images say."""
    backgrounds = output.background.argmax(1).tolist()
    cells = output.cells.float()
    found = find(cells, config.objects)
    styles = [config.styles[i] for i in styles_of(cells, len(config.objects), found).argmax(1).tolist()]
    return [
        Reading(tuple(found[i]), styles[i], config.backgrounds[background]) for i, background in enumerate(backgrounds)
    ]


def find(cells: Tensor, names: Sequence[str]) -> list[list[Found]]:
    """Return the objects of each image: cells that hold one, more probably than all eight neighbours."""
    objects = cells[:, 1:].unflatten(1, (len(names), -1)).logsumexp(2)
    odds = certainty(cells)
    peak = (odds > math.log(CERTAIN / (1 - CERTAIN))) & (odds == F.max_pool2d(odds[:, None], 3, 1, padding=1)[:, 0])
    which, probability = objects.argmax(1), odds.sigmoid()
    found: list[list[Found]] = [[] for _ in range(len(cells))]
    for image, row, column in sorted(peak.nonzero().tolist(), key=lambda place: -odds[tuple(place)]):
        name = names[int(which[image, row, column])]
        found[image].append(Found(name, row, column, float(probability[image, row, column])))
    return found


def certainty(cells: Tensor) -> Tensor:
    """Return the logarithm of the odds that a cell holds an object, which differ even where probabilities are 1."""
    return cells[:, 1:].logsumexp(1) - cells[:, 0]


def styles_of(cells: Tensor, objects: int, found: Sequence[Sequence[Found]]) -> Tensor:
    """Return the probabilities of the styles, (B, styles): the mean over the objects that were found in an image.

    If none was found, that of the cell that is most likely to hold one.
    """
    styles = cells[:, 1:].unflatten(1, (objects, -1)).logsumexp(1).softmax(1)  # (B, styles, grid, grid)
    best = certainty(cells).flatten(1).argmax(1).tolist()
    rows = []
    for i, here in enumerate(found):
        places = [(one.row, one.column) for one in here] or [divmod(best[i], cells.shape[-1])]
        rows.append(torch.stack([styles[i, :, row, column] for row, column in places]).mean(0))
    return torch.stack(rows)


def load_reader(folder: Path, complete: bool = True) -> SceneReader:
    """Load a reader from a folder of ``nextscale evaluate reader``, in evaluation mode.

    Args:
        complete: raise InputError if its ceiling has not been measured.

    Raises:
        InputError: the folder does not exist, has no reader, is unfinished, or has damaged files.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    if complete and not (folder / CEILING).is_file():
        raise InputError(f"{folder} has no {CEILING}: expected a folder that nextscale evaluate reader has finished")
    return load_module(folder, ReaderConfig, SceneReader).eval()
