"""Feature extractors: networks that compute the feature vectors for metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.imaging.images import to_unit_range
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.runtime.device import tf32

INCEPTION = "inception-2015-12-05"
"""Name of the network of published metrics."""


class Features(NamedTuple):
    """Features of B images, in float32.

    Attributes:
        pool: (B, D), for the Frechet distance, precision and recall.
        spatial: (B, E), for the spatial Frechet distance (sFID).
        probabilities: (B, C), softmax over classes, for the Inception Score.
    """

    pool: Tensor
    spatial: Tensor | None = None
    probabilities: Tensor | None = None


class FeatureExtractor(Protocol):
    """A function from uint8 images (B, 3, H, W) to features.

    ``name`` and ``fingerprint`` identify the network and its weights. Metrics of different networks cannot be compared.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, images: Tensor, /) -> Features: ...


class Classifier(Protocol):
    """A network for `ClassifierExtractor`."""

    def features(self, images: Tensor, /) -> Tensor:
        """Return the input of the last layer. (B, 3, H, W) in [-1, 1] -> (B, D)."""
        ...

    def logits(self, features: Tensor, /) -> Tensor:
        """Return the logits of features. (B, D) -> (B, C)."""
        ...


class ClassifierExtractor:
    """A feature extractor that uses a classifier, for images that differ from Inception's training images.

    Args:
        name: name of the classifier in reports and reference files.
        classifier: an `nn.Module` that is a `Classifier`. It is put into eval mode.
        size: (H, W) of its input images; None for any size.
        class_names: class names in the order of the logits; empty if unknown.
        accuracy: accuracy of the classifier on held-out real images, 0 to 1; None if unknown.
    """

    def __init__(
        self,
        name: str,
        classifier: nn.Module,
        size: tuple[int, int] | None = None,
        class_names: Sequence[str] = (),
        accuracy: float | None = None,
    ):
        for method in ("features", "logits"):
            if not callable(getattr(classifier, method, None)):
                raise InputError(
                    f"{type(classifier).__name__} has no method {method}: expected features(images) and "
                    "logits(features)"
                )
        if accuracy is not None and not 0 <= accuracy <= 1:
            raise InputError(f"the accuracy of {name} must be from 0 to 1, not {accuracy}")
        self.name, self.size, self.class_names, self.accuracy = name, size, tuple(class_names), accuracy
        self.classifier = classifier.eval()
        self.fingerprint = weights_fingerprint(classifier)

    def to(self, device: torch.device | str) -> ClassifierExtractor:
        """Move the network to a device, in place."""
        self.classifier.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Return the features of images. uint8 (B, 3, H, W) -> pool (B, D) and probabilities (B, C).

        Raises:
            InputError: the images are not uint8 (B, 3, H, W) or have another size, or the number of logits differs from
                the number of class names.
        """
        check_images(images)
        if self.size not in (None, tuple(images.shape[2:])):
            raise InputError(f"{self.name} takes images of {sides(self.size)}, not {sides(images.shape[2:])}")
        classifier: Classifier = self.classifier  # type: ignore[assignment]
        with torch.autocast(images.device.type, enabled=False), tf32(False):
            pool = classifier.features(to_unit_range(images))
            logits = classifier.logits(pool).float()
        if len(self.class_names) not in (0, logits.shape[1]):
            raise InputError(
                f"{self.name} has {logits.shape[1]} logits, but {len(self.class_names)} names of classes: expected "
                "one for each"
            )
        return Features(pool.float(), probabilities=logits.softmax(1))


def check_images(images: Tensor) -> None:
    """Raise InputError unless the images are uint8 (B, 3, H, W) with B at least 1."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        kind = str(images.dtype).removeprefix("torch.")
        raise InputError(f"expected uint8 images of shape (B, 3, H, W), not {kind} of shape {tuple(images.shape)}")


def sides(size: tuple[int, ...] | None) -> str:
    """Return a size as text, such as ``256 x 256 pixels``, height first."""
    return f"{' x '.join(map(str, size or ()))} pixels"
