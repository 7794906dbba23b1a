"""Load a feature extractor by name, or make one from a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.evaluation.classifier import load_classifier
from nextscale.evaluation.features import FeatureExtractor, Features
from nextscale.evaluation.inception import WHERE, load_inception
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.io.hub import fetch

CACHED = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""File names of the Inception weights that other tools download into PyTorch's cache."""
WEIGHTS = (".pth", ".pt", ".safetensors")
"""Endings of files with weights."""


def load_extractor(name: str, device: torch.device) -> FeatureExtractor:
    """Load an Inception from a file, or a classifier from a folder.

    Args:
        name: a file with Inception's weights; ``OWNER/NAME:FILE`` for one on the Hugging Face hub; a folder written by
            ``nextscale evaluate classifier``; empty for an Inception in PyTorch's cache, where torch-fidelity and
            pytorch-fid download it.

    Raises:
        InputError: the file does not exist (the message contains a download link), or contains other weights.
    """
    if name and Path(name).is_dir():
        return load_classifier(Path(name)).to(device)
    if name and not Path(name).exists() and Path(name).suffix.lower() not in WEIGHTS and not is_on_hub(name):
        raise InputError(
            f"no folder or file {name!r}: expected the folder of a classifier, which nextscale evaluate classifier "
            f"trains, or a file with the weights of Inception. To get this file, {WHERE}"
        )
    return load_inception(find_inception(name)).to(device)


class CallableExtractor:
    """A feature extractor made from any function of images.

    Args:
        function: uint8 images (B, 3, H, W) -> features (B, F), a tensor or a NumPy array; or `Features`.
        name: name in messages and reports; defaults to the name of the function.
    """

    def __init__(self, function: Callable[[Tensor], Tensor | np.ndarray | Features], name: str = ""):
        self.function = function
        self.name = name or getattr(function, "__qualname__", type(function).__name__)
        self.fingerprint = weights_fingerprint(function) if isinstance(function, nn.Module) else ""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Return the features of uint8 images (B, 3, H, W) in float32.

        Raises:
            InputError: the function does not return features (B, F).
        """
        found = self.function(images)
        if isinstance(found, Features):
            return found
        if isinstance(found, np.ndarray):
            found = torch.from_numpy(found)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise InputError(f"{self.name} returned {got}: expected features of shape ({len(images)}, F)")
        return Features(found.float())


def make_extractor(
    extractor: str | Path | FeatureExtractor | Callable[[Tensor], Tensor | np.ndarray | Features], device: torch.device
) -> FeatureExtractor:
    """Return a `FeatureExtractor`. Names are loaded, functions are wrapped, and extractors are returned unchanged."""
    if isinstance(extractor, str | Path):
        return load_extractor(str(extractor), device)
    if not callable(extractor):
        raise InputError(f"the extractor is a {type(extractor).__name__}: expected a name or a function of images")
    if all(isinstance(getattr(extractor, field, None), str) for field in ("name", "fingerprint")):
        return extractor  # type: ignore[return-value]
    return CallableExtractor(extractor)


def find_inception(name: str) -> Path:
    """Return the file with Inception's weights for a name. A file given by path may not exist."""
    if not name:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        found = [folder / file for file in CACHED if (folder / file).is_file()]
        if not found:
            raise InputError(
                f"no --features given, and PyTorch's cache has no Inception: {WHERE}, or train a classifier on your "
                "images with nextscale evaluate classifier and pass its folder"
            )
        return found[0]
    if is_on_hub(name):
        repository, _, file = name.partition(":")
        try:
            return fetch(repository, file)
        except InputError as error:
            raise InputError(
                f"cannot download {file} from {repository}: no network, or no such file? {WHERE}"
            ) from error
    return Path(name)


def is_on_hub(name: str) -> bool:
    """Return whether a name is ``OWNER/NAME:FILE``, and not that of an existing file."""
    repository, colon, _ = name.partition(":")
    return bool(colon) and repository.count("/") == 1 and not Path(name).exists()


def probe(extractor: FeatureExtractor, size: tuple[int, int], device: torch.device) -> Features:
    """Return the features of one black image (H, W), to determine their kinds and dimensions.

    Raises:
        InputError: the extractor does not accept images of this size.
    """
    return extractor(torch.zeros(1, 3, *size, dtype=torch.uint8, device=device))
