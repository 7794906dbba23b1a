"""Measure a gallery: compute features, then all metrics, as ``nextscale evaluate`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nextscale.evaluation.closest import closest_grid
from nextscale.evaluation.gallery import Gallery
from nextscale.evaluation.memorisation import Memorisation
from nextscale.evaluation.report import Published, Report
from nextscale.evaluation.saving import Saver
from nextscale.evaluation.session import Session
from nextscale.evaluation.store import FeatureStore
from nextscale.evaluation.summary import Summary
from nextscale.evaluation.target import Target
from nextscale.families.sources import find_published
from nextscale.galleries.dataset import EVERY_WAY, Crop, CroppedImages, check_apart, open_crops
from nextscale.galleries.reconstructed import ReconstructedImages, fold_notes
from nextscale.galleries.sampled import SampledImages
from nextscale.imaging.images import save_image
from nextscale.runtime.distributed import is_main
from nextscale.sampling.settings import METRICS

CLOSEST = "closest.png"
CONTROLS = 500
"""Number of training images to use as known copies."""


class CopyCheck(NamedTuple):
    """Features for the check for copies of training images."""

    training: FeatureStore
    """Features of each training image in several views."""
    held_out: FeatureStore
    """Features of images that the model was not trained on."""
    control: FeatureStore
    """Features of some training images in other views. They are encoded and decoded if the measured images are sampled.
    """


def open_copy_check(
    session: Session,
    gallery: Gallery,
    training: str,
    held_out: str = "",
    crop: Crop = "centre",
    report: Callable[[str], None] = print,
    val_fraction: float = 0,
) -> CopyCheck:
    """Open the data sets for the check for copies.

    Args:
        gallery: the images to check.
        training: the data set that the model was trained on (its train/, if it has train/ and val/).
        held_out: a data set that it was not trained on; by default val/ of ``training``.
        crop: crop of the held-out images.
        report: called with a message for each image that cannot be read, and with the notes of the data.
        val_fraction: without ``held_out`` and val/, the fraction of ``training`` that the model was not trained on.

    Raises:
        InputError: the data does not exist, or the held-out images are the training images.
    """
    fraction = 0 if held_out else val_fraction
    seen = open_crops(training, None, gallery.size, EVERY_WAY, report, "train", fraction)
    unseen = open_crops(held_out or training, None, gallery.size, crop, report, "val", fraction)
    check_apart(seen, unseen)
    control: Gallery = seen.at_random(CONTROLS, session.seed)
    if isinstance(gallery, SampledImages):
        dtype = gallery.pipeline.precision.without_int8.name  # the precision of decoding
        control = ReconstructedImages(control, gallery.pipeline.tokenizer, dtype=dtype, noted=False)
    galleries = {"training": seen, "held-out": unseen, "control": control}
    return CopyCheck(*(session.open(name, each, ("pool",)) for name, each in galleries.items()))


def measure(
    session: Session,
    gallery: Gallery,
    target: Target | None = None,
    copies: CopyCheck | None = None,
    saver: Saver | None = None,
    crop: str | None = None,
) -> Report | None:
    """Measure the images of a gallery. All processes must call this.

    Args:
        session: settings of the evaluation. Its folder stores the features, so that the same call can resume.
        target: the reference.
        copies: features for the check for copies, which also writes ``closest.png`` to the folder of the session.
        saver: saves the images.
        crop: required crop of the reference; None accepts any crop.

    Returns:
        The report in the main process, None in others.

    Raises:
        InputError: the gallery does not fit the reference or earlier features in the folder, or cannot be read.
    """
    start = time.monotonic()
    if target:
        target.check(gallery, crop)
    store = session.open_measured(gallery)
    if target:
        target.fill()
    for each in copies or ():
        session.fill(each, f"read {each.gallery.name}:")
    session.fill(store, progress_text(gallery), saver)
    if not is_main():
        return None
    if saver:
        saver.finish()
    summary = session.summarise(store)
    reference = target.finish() if target else None
    settings: dict[str, Any] = {}
    memorised = None
    if copies:
        memorised = find_copies(session, gallery, summary, copies)
        settings = {name: each.gallery.made_from for name, each in copies._asdict().items()}
    reconstruction = fold_notes(store, gallery.tokenizer) if isinstance(gallery, ReconstructedImages) else None
    seconds = time.monotonic() - start
    report = session.report(gallery, summary, reference, seconds, settings, memorised, reconstruction)
    theirs = published(gallery.name) if isinstance(gallery, SampledImages) and report.fid is not None else None
    return replace(report, verdict_line=report.verdict(theirs)) if theirs else report


def progress_text(gallery: Gallery) -> str:
    """Return the start of the progress lines for a gallery."""
    if isinstance(gallery, SampledImages):
        return "sampled"
    return "reconstructed" if isinstance(gallery, ReconstructedImages) else f"read {gallery.name}:"


def find_copies(session: Session, gallery: Gallery, summary: Summary, copies: CopyCheck) -> Memorisation:
    """Compare the sampled images with the training images, and write an image of the closest pairs."""
    found = session.memorised(summary, gallery.class_names, *copies)
    training = copies.training.gallery
    assert isinstance(training, CroppedImages)
    save_image(closest_grid(found.pairs, gallery, training), session.folder / CLOSEST)
    pairs = tuple(pair._replace(training=training.number(pair.training)) for pair in found.pairs)
    return replace(found, pairs=pairs, tokenized=isinstance(copies.control.gallery, ReconstructedImages))


def published(model: str) -> Published | None:
    """Return the published FID of an official model, or None for other models."""
    found = None if Path(model).exists() else find_published(model)
    if found is None or found.fid is None:
        return None
    return Published(f"VAR-d{found.model.depth}", "fid", found.fid, settings=METRICS.record())
