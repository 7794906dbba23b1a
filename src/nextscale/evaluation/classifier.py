"""A small classifier for evaluation, trained on the data set of the evaluated model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.evaluation.features import ClassifierExtractor
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, as_config, check_fields
from nextscale.io.files import read_json, write_json
from nextscale.io.module_folder import load_module, save_module

CARD = "classifier.json"


@dataclass(frozen=True)
class ClassifierConfig:
    """The architecture of a `ResidualClassifier`.

    Attributes:
        classes: number of classes, at least 2.
        size: (H, W) of the images. Both must be at least 2 ** len(widths), so that the last stage has a pixel.
        widths: channels at 1/2, 1/4, 1/8 ... of the image's side. The last width is the feature dimension.
    """

    classes: int = field(metadata={"least": 2, "most": LARGEST_TABLE})
    size: tuple[int, ...] = field(metadata={"most": 2**14})
    widths: tuple[int, ...] = field(default=(32, 64, 128, 256), metadata={"most": LARGEST_WIDTH, "longest": 12})

    def __post_init__(self) -> None:
        for name in ("size", "widths"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        check_fields(self)
        if len(self.size) != 2:
            raise InputError(f"size must be two integers, height and width, not {self.size!r}")
        smallest = 2 ** len(self.widths)
        if min(self.size) < smallest:
            raise InputError(
                f"a classifier of {len(self.widths)} widths needs images with sides of at least {smallest} pixels, not "
                f"{min(self.size)}"
            )


class Block(nn.Module):
    """Pre-activation residual block: shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))) (arXiv 1603.05027).

    If the width changes, height and width are halved, rounded up, and the shortcut is a 1x1 convolution of
    relu(norm(x)).
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.halves = inputs != outputs
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if self.halves else 1, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if self.halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        skip = self.shortcut(F.avg_pool2d(h, 2, ceil_mode=True)) if self.halves else x
        return skip + self.conv2(F.relu(self.norm2(self.conv1(h))))


class ResidualClassifier(nn.Module):
    """A residual network that implements `Classifier`. Its first layer halves height and width of the image.

    The features are the mean over positions of the last activation; the logits are linear in the features.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False)
        pairs = [pair for before, width in pairwise((widths[0], *widths)) for pair in ((before, width), (width, width))]
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairs)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], config.classes)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> ResidualClassifier:
        """Initialize the weights: normal with variance 2 / inputs for convolutions (arXiv 1502.01852) and variance
        1 / inputs for the head. The bias is 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear", generator=generator)
        nn.init.zeros_(self.head.bias)
        return self

    def features(self, images: Tensor) -> Tensor:
        """Return the features of images. (B, 3, H, W) in [-1, 1] -> (B, D), at least 0."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return F.relu(self.norm(x)).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits of features. (B, D) -> (B, C)."""
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images. (B, 3, H, W) in [-1, 1] -> logits (B, C)."""
        return self.logits(self.features(images))


@dataclass(frozen=True)
class Card:
    """The content of ``classifier.json``. It is written last, so a folder with this file is complete."""

    class_names: tuple[str, ...]
    accuracy: float | None

    def __post_init__(self) -> None:
        names, accuracy = self.class_names, self.accuracy
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise InputError(f"class_names must be a list of texts, not {names!r}")
        if accuracy is not None and not isinstance(accuracy, int | float):
            raise InputError(f"accuracy must be a number or null, not {accuracy!r}")
        object.__setattr__(self, "class_names", tuple(names))


def load_classifier(folder: Path) -> ClassifierExtractor:
    """Load a classifier from a folder of ``nextscale evaluate classifier`` or `save_classifier`.

    Raises:
        InputError: the folder does not exist, has no classifier, is unfinished, or has damaged files.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    if not (folder / CARD).is_file():
        raise InputError(f"{folder} has no {CARD}: expected a folder that nextscale evaluate classifier has finished")
    card = as_config(Card, read_json(folder / CARD))
    network = load_module(folder, ClassifierConfig, ResidualClassifier)
    if len(card.class_names) != network.config.classes:
        raise InputError(
            f"{folder} names {len(card.class_names)} classes, but its classifier has {network.config.classes}"
        )
    return as_extractor(network, card.class_names, card.accuracy)


def as_extractor(
    network: ResidualClassifier, class_names: Sequence[str], accuracy: float | None = None
) -> ClassifierExtractor:
    """Return a feature extractor that uses a classifier."""
    height, width = network.config.size
    name = f"a classifier of {network.config.classes} classes"
    return ClassifierExtractor(name, network, (height, width), class_names, accuracy)


def save_classifier(
    folder: Path, network: ResidualClassifier, class_names: Sequence[str], accuracy: float | None = None
) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``classifier.json``.

    Raises:
        InputError: the folder is not writable, or holds a training run.
    """
    (folder / CARD).unlink(missing_ok=True)
    save_module(folder, network.config, network)
    write_card(folder, class_names, accuracy)


def write_card(folder: Path, class_names: Sequence[str], accuracy: float | None) -> None:
    """Write ``classifier.json``, which marks the classifier in the folder as complete."""
    write_json(folder / CARD, dataclasses.asdict(Card(tuple(class_names), accuracy)))
