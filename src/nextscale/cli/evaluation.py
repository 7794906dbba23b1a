"""Flags that the verbs of evaluation share, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from nextscale.cli.models import Dtype, Int8Dtype, ModelOptions
from nextscale.errors import InputError
from nextscale.evaluation.extractors import load_extractor
from nextscale.evaluation.gallery import Gallery
from nextscale.evaluation.memorisation import Memorisation
from nextscale.evaluation.reconstruction import Reconstruction
from nextscale.evaluation.reference import Reference, read_reference
from nextscale.evaluation.report import Published, Report
from nextscale.evaluation.session import Session
from nextscale.evaluation.summary import Summary
from nextscale.evaluation.target import UNKNOWN, Target
from nextscale.families.sources import find_published
from nextscale.galleries.dataset import Crop, Split, open_crops
from nextscale.galleries.sampled import SampledImages
from nextscale.pipeline import Pipeline
from nextscale.runtime.progress import say
from nextscale.sampling.settings import SamplingSettings

REPORT = "report.json"
PER_CLASS = 50
"""As in published figures."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ModelOptions):
    """Flags of "evaluate" and "evaluate sweep"."""

    out: Path
    """Folder of the evaluation. The same command again goes on where it stopped, to the last 250 images."""
    dtype: Literal[Dtype, Int8Dtype] = "float32"  # type: ignore[override]
    """Precision of matrix products and convolutions; int8 is less exact, on some CPUs, with what is fast
    beside it, or what its name says."""
    reference: str = ""
    """Real images: an .npz of "evaluate reference" or of the ADM evaluator; or a data set, as training takes it."""
    split: Split | None = None
    """Of a data set: the part that is the reference, or is reconstructed."""
    crop: Crop | None = None
    """Of a data set: centre, the largest middle part, as published references of ImageNet are cut; or training, the
    middle part that validation in training sees, 1.125 times smaller. Left out: that of the reference file, or
    centre."""
    features: str = ""
    """Who looks: a file with the Inception of FID; OWNER/NAME:FILE of the hub; or a folder of "evaluate classifier".
    Left out: an Inception that torch-fidelity or pytorch-fid has left in PyTorch's cache."""
    per_class: int | None = None
    """Images drawn of each class; 50, if --num-images says nothing either."""
    num_images: int | None = None
    """Images in all, evenly of all classes."""
    batch_size: int = 50
    """Images drawn and looked at at once; halved where a GPU's memory does not suffice."""

    def check_numbers(self) -> None:
        """Raises InputError for numbers out of range, before anything is loaded."""
        if self.num_images is not None and self.per_class is not None:
            raise InputError("expected --num-images or --per-class, got both")
        for name, least in (("per_class", 1), ("num_images", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {value}")

    def session(self, folder: Path, device: torch.device) -> Session:
        return Session(folder, load_extractor(self.features, device), device, self.batch_size, self.seed)

    def pipeline(self) -> Pipeline:
        return Pipeline.from_pretrained(self.model, self.device, self.dtype, self.schedule())

    def drawn(self, pipeline: Pipeline, settings: SamplingSettings) -> SampledImages:
        """The images that are to be drawn."""
        count = self.num_images or (self.per_class or PER_CLASS) * len(pipeline.class_names)
        name = str(Path(self.model).resolve()) if Path(self.model).exists() else self.model
        return SampledImages(pipeline, name, count, settings, self.seed)

    def reference_file(self) -> Reference | None:
        """What ``--reference`` names if it is a file.

        Raises:
            InputError: no such file or a bad one, or its crop is not that of ``--crop``.
        """
        if not self.reference.lower().endswith(".npz"):
            return None
        reference = read_reference(Path(self.reference))
        reference.check_crop(self.crop)
        return reference

    def crop_in_use(self, file: Reference | None) -> Crop:
        """Of ``--crop``; else the file's; else that of published references."""
        known = file.origin.crop if file and file.origin else None
        return self.crop or next((crop for crop in get_args(Crop) if crop == known), "centre")

    def target(self, session: Session, file: Reference | None, size: tuple[int, int]) -> Target | None:
        """What ``--reference`` says; None if it says nothing."""
        if not self.reference:
            return None
        if file:
            return Target.of_file(session, file)
        crop = self.crop_in_use(None)
        say(f"{self.reference} is no .npz: its images are cropped ({crop}) and looked at first")
        return Target.of_images(session, open_crops(self.reference, self.split, size, crop, say), crop)


def make_report(
    session: Session,
    gallery: Gallery,
    summary: Summary,
    reference: Reference | None,
    seconds: float,
    model: str | None,
    settings: Mapping[str, Any],
    memorisation: Memorisation | None = None,
    reconstruction: Reconstruction | None = None,
) -> Report:
    """Measure, and say what was measured how.

    Args:
        model: that drew the images, to be set beside its published figure.
        settings: what else the figures depend on.
    """
    origin = reference.origin if reference else None
    stored = reference.stored if reference else None
    report = Report(
        images=summary.count,
        size=gallery.size,
        extractor=session.extractor.name,
        fingerprint=session.extractor.fingerprint,
        reference=reference.name if reference else None,
        reference_images=origin.images if origin else stored[0] if stored else None,
        seed=session.seed,
        reference_crop=origin.crop if origin and origin.crop != UNKNOWN else None,
        settings={**gallery.made_from, **settings},
        seconds_of_last_call=seconds,
        memorisation=memorisation,
        reconstruction=reconstruction,
        **session.measure(summary, reference),
    )
    theirs = published(model) if model and report.fid is not None else None
    return replace(report, verdict_line=report.verdict(theirs)) if theirs else report


def published(model: str) -> Published | None:
    """The FID of an official model, as its authors state it."""
    found = find_published(model)
    if found is None or Path(model).exists():
        return None
    return Published(f"VAR-d{found.model.depth}", "fid", found.fid, settings=SamplingSettings().record())
