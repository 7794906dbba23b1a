"""The Python API of evaluation: compare images with real images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.evaluation.extractors import make_extractor
from nextscale.evaluation.features import FeatureExtractor, Features
from nextscale.evaluation.gallery import Gallery, ImageTensor, open_images
from nextscale.evaluation.reference import UNKNOWN, Reference, read_reference
from nextscale.evaluation.report import Report
from nextscale.evaluation.session import Session
from nextscale.evaluation.target import Target
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import world_size

Images = Tensor | np.ndarray | str | Path | Gallery
"""uint8 (N, 3, H, W); a folder of images of one size; an .npz file with images; or a `Gallery`."""


def evaluate(
    images: Images,
    reference: Images | Reference | None,
    extractor: str | Path | FeatureExtractor | Callable[[Tensor], Tensor | np.ndarray | Features] = "",
    *,
    batch_size: int = 50,
    seed: int = 0,
    device: str | None = None,
) -> Report:
    """Evaluate images, and compare them with real images.

    The metrics depend on the features of the extractor. Pool features give FID, precision and recall, density and
    coverage. Probabilities also give the Inception Score, and label agreement if the class names of images and
    extractor are known. Spatial features also give sFID. ``report.warnings`` lists the metrics that are skipped.

    Example: a custom feature extractor is a function of a batch of images.

    ```python
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    import nextscale as ns


    def colours(images: torch.Tensor) -> torch.Tensor:  # uint8 (B, 3, H, W) -> (B, 48)
        # the mean colours on a 4 x 4 grid
        return adaptive_avg_pool2d(images / 255, 4).flatten(1)


    report = ns.evaluate("runs/images", "photos", colours)
    print(report.fid, report.precision_recall)
    print(report.table())
    ```

    Args:
        images: the images to evaluate: a tensor or array, uint8 (N, 3, H, W); a folder of images of one size; an .npz
            file with images in ``arr_0``; or any `Gallery`, such as those of ``nextscale.galleries``.
        reference: real images in the same forms; a reference file (.npz) of ``nextscale evaluate reference`` or of the
            ADM evaluator; or None, for the metrics without a reference.
        extractor: a function, uint8 (B, 3, H, W) -> (B, F); a `FeatureExtractor`; or a name: a file with the weights
            of Inception, a folder of ``nextscale evaluate classifier``, or empty for the Inception in PyTorch's cache.
        batch_size: images per call of the extractor.
        seed: seed for shuffling images for the Inception Score, and for choosing images for precision and recall.
        device: device of the images that the extractor gets: auto, cpu or cuda. Defaults to the device of the
            extractor's weights, to auto for a name, and to cpu for a function.

    Raises:
        InputError: images have different sizes or cannot be read, the extractor does not accept them, its features have
            a wrong shape or are not finite, or there is more than one process.
    """
    if world_size() > 1:
        raise InputError(f"ns.evaluate runs in 1 process, not in {world_size()}: use nextscale evaluate with torchrun")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    start = time.monotonic()
    where = pick_device(device or default_device(extractor))
    gallery = open_gallery(images, "the images")
    with TemporaryDirectory(prefix="nextscale-") as folder:
        session = Session(Path(folder), make_extractor(extractor, where), where, batch_size, seed)
        target = open_target(session, reference)
        if target:
            target.check(gallery)
            target.fill()
        store = session.fill(session.open_measured(gallery), f"read {gallery.name}:")
        found = target.finish() if target else None
        return session.report(gallery, session.summarise(store), found, time.monotonic() - start, {})


def default_device(extractor: object) -> str:
    """Return the device of a module's weights, or of the module inside a `ClassifierExtractor`."""
    if isinstance(extractor, str | Path):
        return "auto"
    module = extractor if isinstance(extractor, nn.Module) else getattr(extractor, "classifier", None)
    weights = module.state_dict().values() if isinstance(module, nn.Module) else ()
    return str(next((tensor.device for tensor in weights), torch.device("cpu")))


def open_gallery(images: Images, name: str) -> Gallery:
    """Return images as a gallery. ``name`` is the name of a tensor in messages."""
    if isinstance(images, Tensor | np.ndarray):
        return ImageTensor(images, name)
    return open_images(Path(images)) if isinstance(images, str | Path) else images


def open_target(session: Session, reference: Images | Reference | None) -> Target | None:
    """Return the reference of an evaluation. It may have to be computed."""
    if reference is None or isinstance(reference, Reference):
        return Target.of_file(session, reference) if reference else None
    if isinstance(reference, str | Path) and str(reference).lower().endswith(".npz"):
        return Target.of_file(session, read_reference(Path(reference)))
    return Target.of_images(session, open_gallery(reference, "the reference"), UNKNOWN)
