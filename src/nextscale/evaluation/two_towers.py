"""A network for images and one for captions, whose outputs are close for an image and its own caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.conditioning.words import WordIds, Words
from nextscale.conditioning.words_config import WordsConfig
from nextscale.errors import InputError
from nextscale.evaluation.classifier import Block
from nextscale.io.config import LARGEST_WIDTH, as_config, check_fields
from nextscale.io.files import read_json, write_json
from nextscale.io.module_folder import load_module

CARD = "towers.json"
CANDIDATES = 100
"""Number of captions among which an image must find its own."""
SHARPEST = math.log(100)
"""Largest logarithm of the factor of similarities, as in CLIP (arXiv 2103.00020)."""


@dataclass(frozen=True)
class TowersConfig:
    """The architecture of `TwoTowers`.

    Attributes:
        words: vocabulary and sizes of the text tower.
        size: (H, W) of the images.
        widths: channels at 1/2, 1/4, 1/8 ... of the image's side.
        features: F, length of the vectors that are compared.
    """

    words: WordsConfig
    size: tuple[int, ...] = field(metadata={"most": 2**14})
    widths: tuple[int, ...] = field(default=(24, 48, 96, 160), metadata={"most": LARGEST_WIDTH, "longest": 12})
    features: int = field(default=128, metadata={"most": LARGEST_WIDTH})

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", as_config(WordsConfig, self.words))
        for name in ("size", "widths"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        check_fields(self)
        if len(self.size) != 2 or min(self.size) < 2 ** len(self.widths):
            raise InputError(
                f"two towers of {len(self.widths)} widths need sides of at least {2 ** len(self.widths)} "
                f"pixels, not {self.size}"
            )


class TwoTowers(nn.Module):
    """A residual network for images and a transformer for words, trained to agree (arXiv 2103.00020)."""

    def __init__(self, config: TowersConfig):
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False)
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.image_head = nn.Linear(2 * widths[-1], config.features)
        self.words = Words(config.words)
        self.text_norm = nn.LayerNorm(config.words.width)
        self.text_head = nn.Linear(config.words.width, config.features)
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> TwoTowers:
        """Initialize the weights as `ResidualClassifier` and `Words` do."""
        self.words.init_weights(generator)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        for head in (self.image_head, self.text_head):
            nn.init.kaiming_normal_(head.weight, nonlinearity="linear", generator=generator)
            nn.init.zeros_(head.bias)
        return self

    def images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> unit vectors (B, F). Images of another size are resized."""
        if images.shape[2:] != self.config.size:
            images = F.interpolate(images, self.config.size, mode="bicubic", antialias=True).clamp(-1, 1)
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.norm(x))
        return F.normalize(self.image_head(torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)).float(), dim=1)

    def texts(self, words: WordIds) -> Tensor:
        """B captions -> unit vectors (B, F). The token at the end of a caption speaks for all of it."""
        features = self.words(words).features
        ends = torch.tensor(words.lengths, device=features.device).cumsum(0) - 1
        return F.normalize(self.text_head(self.text_norm(features[ends])).float(), dim=1)

    def forward(self, images: Tensor, words: WordIds) -> Tensor:
        """Similarities of all images with all captions, as logits (B, B)."""
        return self.sharpness.clamp(max=SHARPEST).exp() * self.images(images) @ self.texts(words).T


@dataclass(frozen=True)
class Retrieval:
    """How often an image finds its own caption among others.

    Attributes:
        accuracy: fraction of the images whose caption is the most similar one.
        candidates: number of captions to choose from.
        images: number of images.
    """

    accuracy: float
    candidates: int
    images: int

    def __str__(self) -> str:
        return f"{self.accuracy:.1%} of {self.images} images find their caption among {self.candidates}"


@torch.no_grad()
def retrieval(images: Tensor, texts: Tensor, captions: Sequence[str]) -> Retrieval:
    """Return how often image i finds caption i, in groups of `CANDIDATES` in the given order.

    Captions with the same words count as the same. If fewer images than a group are left over, they are not used,
    unless there is no whole group.

    Args:
        images: unit vectors (N, F).
        texts: unit vectors (N, F) of the captions.

    Raises:
        InputError: there are fewer than two images.
    """
    size = min(CANDIDATES, len(captions))
    if size < 2:
        raise InputError(f"retrieval needs at least 2 images with captions, not {size}")
    right = count = 0
    for start in range(0, len(captions) - size + 1, size):
        group = slice(start, start + size)
        best = (images[group] @ texts[group].T).argmax(1).tolist()
        words = [caption.casefold().split() for caption in captions[group]]
        right += sum(words[found] == words[i] for i, found in enumerate(best))
        count += size
    return Retrieval(right / count, size, count)


def load_towers(folder: Path) -> tuple[TwoTowers, Retrieval]:
    """Load two towers in evaluation mode, and their accuracy on real pairs.

    Raises:
        InputError: the folder does not exist, has none, is unfinished, or has damaged files.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    if not (folder / CARD).is_file():
        raise InputError(f"{folder} has no {CARD}: expected a folder that nextscale evaluate towers has finished")
    return load_module(folder, TowersConfig, TwoTowers).eval(), as_config(Retrieval, read_json(folder / CARD))


def write_card(folder: Path, real: Retrieval) -> None:
    """Write ``towers.json``, which marks the towers in the folder as complete."""
    write_json(folder / CARD, asdict(real))
