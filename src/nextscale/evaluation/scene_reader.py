"""A small network that reads scenes: which objects there are and where, the style and the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.evaluation.classifier import Block
from nextscale.io.config import LARGEST_WIDTH, check_fields
from nextscale.io.files import read_json, write_json
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
    """(B, 1 + objects, grid, grid): no object, or the object whose centre lies in the cell."""
    style: Tensor
    background: Tensor


class Found(NamedTuple):
    """An object that was found in an image."""

    name: str
    row: int
    column: int
    probability: float


@dataclass(frozen=True)
class Reading:
    """What an image shows."""

    objects: tuple[Found, ...]
    """From the most to the least certain one."""
    style: str
    background: str


class SceneReader(nn.Module):
    """A residual network with a prediction for each cell of a grid, and two for the image."""

    def __init__(self, config: ReaderConfig):
        super().__init__()
        self.config = config
        first, second, last = config.widths
        self.stem = nn.Conv2d(3, first, 5, stride=2, padding=2, bias=False)
        pairs = [(first, second), *[(second, second)] * (config.blocks[0] - 1)]
        pairs += [(second, last), *[(last, last)] * (config.blocks[1] - 1)]
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairs)
        self.norm = nn.BatchNorm2d(last)
        self.cells = nn.Conv2d(last, 1 + len(config.objects), 1)
        self.style = nn.Linear(2 * last, len(config.styles))
        self.background = nn.Linear(2 * last, len(config.backgrounds))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> SceneReader:
        """Initialize the weights as `ResidualClassifier` does. At first, nearly all cells are empty."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        for head in (self.cells, self.style, self.background):
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
        return ReaderOutput(self.cells(x), self.style(whole), self.background(whole))

    @torch.no_grad()
    def read(self, images: Tensor) -> list[Reading]:
        """Read images (B, 3, H, W) in [-1, 1]. They are resized if their size differs. Use evaluation mode."""
        side = self.config.size
        if images.shape[2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        return readings(self.config, self(images))


def readings(config: ReaderConfig, output: ReaderOutput) -> list[Reading]:
    """Return what the logits of images say."""
    style, background = output.style.argmax(1).tolist(), output.background.argmax(1).tolist()
    return [
        Reading(tuple(objects), config.styles[style[i]], config.backgrounds[background[i]])
        for i, objects in enumerate(find(output.cells.float(), config.objects))
    ]


def find(cells: Tensor, names: Sequence[str]) -> list[list[Found]]:
    """Return the objects of each image: cells that hold one, more probably than all eight neighbours."""
    probabilities = cells.softmax(1)
    there = 1 - probabilities[:, 0]
    peak = (there > CERTAIN) & (there == F.max_pool2d(there[:, None], 3, stride=1, padding=1)[:, 0])
    best, which = probabilities[:, 1:].max(1)
    found: list[list[Found]] = [[] for _ in range(len(cells))]
    for image, row, column in peak.nonzero().tolist():
        name = names[int(which[image, row, column])]
        found[image].append(Found(name, row, column, float(best[image, row, column])))
    return [sorted(objects, key=lambda one: -one.probability) for objects in found]


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


def write_ceiling(folder: Path, ceiling: Mapping[str, Any]) -> None:
    """Write ``reader.json``: for each kind of real renders, the scores."""
    write_json(folder / CEILING, {kind: asdict(scores) for kind, scores in ceiling.items()})


def read_ceiling(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of ``reader.json``: for each kind of real renders, fractions and counts."""
    return read_json(folder / CEILING)
