"""What a picture looks like to a network: the vectors that every measure is taken from."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nextscale.device import tf32
from nextscale.errors import InputError
from nextscale.pictures import to_unit_range

INCEPTION = "inception-2015-12-05"
"""Name of the network that published figures are by."""


class Features(NamedTuple):
    """Of B pictures, in float32.

    Attributes:
        pool: (B, D), for the Frechet distance, precision and recall.
        spatial: (B, E), for the spatial Frechet distance (sFID).
        probabilities: (B, C), softmax over classes, for the Inception Score.
    """

    pool: Tensor
    spatial: Tensor | None = None
    probabilities: Tensor | None = None


class FeatureExtractor(Protocol):
    """uint8 pictures (B, 3, H, W) -> features.

    ``name`` and ``fingerprint`` say which network with which weights: figures of two networks cannot be compared.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, pictures: Tensor, /) -> Features: ...


class Classifier(Protocol):
    """A network that `ClassifierExtractor` looks through."""

    def features(self, images: Tensor, /) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D), what the last layer sees."""
        ...

    def logits(self, features: Tensor, /) -> Tensor:
        """(B, D) -> (B, C)."""
        ...


class ClassifierExtractor:
    """Features of a classifier of one's own, for pictures that Inception knows nothing of.

    Args:
        name: under which reports and reference files know the classifier.
        classifier: an `nn.Module` that is a `Classifier`; put into evaluation mode.
        size: (H, W) that it takes; None for any.
    """

    def __init__(self, name: str, classifier: nn.Module, size: tuple[int, int] | None = None):
        for method in ("features", "logits"):
            if not callable(getattr(classifier, method, None)):
                raise InputError(
                    f"{type(classifier).__name__} has no method {method}: expected features(images) and "
                    "logits(features)"
                )
        self.name, self.size = name, size
        self.classifier = classifier.eval()
        self.fingerprint = fingerprint(classifier)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Features:
        """uint8 (B, 3, H, W) -> pool (B, D) and probabilities (B, C).

        Raises:
            InputError: anything but uint8 pictures in colour, or of another size.
        """
        check_pictures(pictures)
        if self.size not in (None, tuple(pictures.shape[2:])):
            raise InputError(f"{self.name} takes pictures of {sides(self.size)}, not {sides(pictures.shape[2:])}")
        classifier: Classifier = self.classifier  # type: ignore[assignment]
        with torch.autocast(pictures.device.type, enabled=False), tf32(False):
            pool = classifier.features(to_unit_range(pictures))
            return Features(pool.float(), probabilities=classifier.logits(pool).float().softmax(1))


def check_pictures(pictures: Tensor) -> None:
    """Raises InputError for anything but one or more uint8 pictures (B, 3, H, W)."""
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.numel():
        kind = str(pictures.dtype).removeprefix("torch.")
        raise InputError(f"expected uint8 pictures of shape (B, 3, H, W), not {kind} of shape {tuple(pictures.shape)}")


def sides(size: tuple[int, ...] | None) -> str:
    """``256 x 256 pixels``, height first."""
    return f"{' x '.join(map(str, size or ()))} pixels"


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits of the SHA-256 of all weights with their names, on whatever device they are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
