"""A name -> the network that looks at images."""

from __future__ import annotations

from pathlib import Path

import torch

from nextscale.errors import InputError
from nextscale.evaluation.classifier import load_classifier
from nextscale.evaluation.features import FeatureExtractor, Features
from nextscale.evaluation.inception import WHERE, load_inception
from nextscale.io.hub import fetch

CACHED = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""Files of the Inception that other tools leave in PyTorch's cache."""


def load_extractor(name: str, device: torch.device) -> FeatureExtractor:
    """The Inception of a file, a classifier of a folder, or what PyTorch's cache has.

    Args:
        name: an Inception's file; ``OWNER/NAME:FILE`` for one on the Hugging Face hub; a folder of ``evaluate
            classifier``; empty for the Inception that another tool has left in PyTorch's cache.

    Raises:
        InputError: nothing there (the sentence says where to get weights), or other weights.
    """
    if name and Path(name).is_dir():
        return load_classifier(Path(name)).to(device)
    return load_inception(find_inception(name)).to(device)


def find_inception(name: str) -> Path:
    """The file that a name stands for; it need not be there if it was named."""
    if not name:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        found = [folder / file for file in CACHED if (folder / file).is_file()]
        if not found:
            raise InputError(f"no --features were named, and PyTorch's cache has no Inception: {WHERE}")
        return found[0]
    repository, colon, file = name.partition(":")
    if colon and repository.count("/") == 1 and not Path(name).exists():
        try:
            return fetch(repository, file)
        except InputError as error:
            raise InputError(
                f"cannot download {file} from {repository}: no network, or no such file? {WHERE}"
            ) from error
    return Path(name)


def probe(extractor: FeatureExtractor, size: tuple[int, int], device: torch.device) -> Features:
    """Features of one black image (H, W): which ones there are, and of how many dimensions.

    Raises:
        InputError: the extractor takes no images of this size.
    """
    return extractor(torch.zeros(1, 3, *size, dtype=torch.uint8, device=device))
