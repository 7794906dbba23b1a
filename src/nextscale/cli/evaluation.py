"""Flags that "evaluate" and "evaluate sweep" share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from nextscale.cli.models import Dtype, Int8Dtype, ModelOptions
from nextscale.data.held_out import ValidationSettings
from nextscale.errors import InputError
from nextscale.evaluation.extractors import load_extractor
from nextscale.evaluation.reference import Reference, read_reference
from nextscale.evaluation.session import Session
from nextscale.evaluation.target import Target
from nextscale.families.sources import only_images
from nextscale.galleries.dataset import Crop, Split, open_crops
from nextscale.galleries.sampled import SampledImages
from nextscale.pipeline import Pipeline
from nextscale.runtime.distributed import is_main
from nextscale.runtime.progress import say
from nextscale.runtime.stop import resumable
from nextscale.sampling.settings import SamplingSettings
from nextscale.training.run import trained_fraction

REPORT = "report.json"
PER_CLASS = 50
"""The number for published figures: 50,000 images of 1,000 classes."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ModelOptions, ValidationSettings):
    """Flags of "evaluate" and "evaluate sweep"."""

    out: Path
    """Folder of the evaluation. Repeat the command to resume an interrupted evaluation."""
    dtype: Literal[Dtype, Int8Dtype] = "float32"  # type: ignore[override]
    """Precision of matrix products and convolutions. int8: 8-bit matrix products at the large scales; everything else
    in float32 or bfloat16, whichever is faster. int8 is faster and less exact than the others, and needs a CPU with
    AVX512-VNNI. int8-float32 and int8-bfloat16 are int8 with float32 or bfloat16 for everything else."""
    seed: int = 0
    """Seed of the first image. Image i is sampled with the seed SEED + i."""
    reference: str = ""
    """Real images to compare with: a reference file (.npz) of "evaluate reference" or of the ADM evaluator; or a data
    set (a folder, a .csv table, .tar shards, or hf:NAME)."""
    split: Split | None = None
    """train or val: which part of a data set to use, for --reference and for --data. Data sets with train/ and val/:
    --reference requires this flag, and --data uses val by default. Data sets without val/: all images are used by
    default; train and val are the parts into which training divides the images (see --val-fraction)."""
    crop: Crop | None = None
    """How the images of a data set are cropped. centre: the largest centre crop, as in published references of
    ImageNet. training: the crop that training commands use for validation images. It is the middle of the centre
    crop: 89 % (1/1.125) of the width and height of the centre crop. Default: the crop of the reference file, or
    centre."""
    features: str = ""
    """Feature extractor: a file with the weights of Inception, OWNER/NAME:FILE on the Hugging Face hub, or a folder of
    "evaluate classifier". Default: the Inception that torch-fidelity or pytorch-fid has downloaded."""
    per_class: int | None = None
    """Number of sampled images per class. Default: 50."""
    num_images: int | None = None
    """Total number of sampled images, divided evenly among the classes, instead of --per-class."""
    batch_size: int = 50
    """Number of images per batch, for sampling and feature extraction. It is halved if a GPU runs out of memory."""

    def check_numbers(self) -> None:
        """Raise InputError for numbers out of range, before anything is loaded."""
        if self.num_images is not None and self.per_class is not None:
            raise InputError("expected --num-images or --per-class, got both")
        for name, least in (("per_class", 1), ("num_images", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {value}")

    def fraction_of(self, data: str, divided: bool) -> float:
        """Return the fraction of a data set to hold out: ``--val-fraction``, else that of the model's run on this data.

        Args:
            divided: whether a part of the data is used. If not, the default is 0.
        """
        recorded = trained_fraction(self.model, data) if divided and self.val_fraction is None else None
        return self.fraction(divided) if recorded is None else recorded

    def session(self, folder: Path, device: torch.device) -> Session:
        """Load the network for the features."""
        return Session(folder, load_extractor(self.features, device), device, self.batch_size, self.seed)

    def pipeline(self) -> Pipeline:
        """Load the model."""
        pipeline = Pipeline.from_pretrained(self.model, self.device, self.dtype, self.schedule())
        only_images(pipeline.tokenizer, "evaluate")
        return pipeline

    def sampled(self, pipeline: Pipeline, settings: SamplingSettings) -> SampledImages:
        """Return the images to sample."""
        count = self.num_images or (self.per_class or PER_CLASS) * len(pipeline.class_names)
        name = str(Path(self.model).resolve()) if Path(self.model).exists() else self.model
        return SampledImages(pipeline, name, count, settings, self.seed)

    def reference_file(self) -> Reference | None:
        """Read ``--reference`` if it is a file.

        Raises:
            InputError: the file does not exist or is invalid, or its crop differs from ``--crop``.
        """
        if not self.reference.lower().endswith(".npz"):
            return None
        reference = read_reference(Path(self.reference))
        reference.check_crop(self.crop)
        return reference

    def crop_in_use(self, file: Reference | None) -> Crop:
        """Return ``--crop``, else the crop of the reference file, else the crop of published references."""
        known = file.origin.crop if file and file.origin else None
        return self.crop or next((crop for crop in get_args(Crop) if crop == known), "centre")

    def target(
        self, session: Session, file: Reference | None, size: tuple[int, int], report: Callable[[str], None] = say
    ) -> Target | None:
        """Return the reference for images of a size (H, W); None without ``--reference``.

        Args:
            report: called with a message for each image that cannot be read, and with the notes of the data.
        """
        if not self.reference:
            return None
        if file:
            return Target.of_file(session, file)
        crop = self.crop_in_use(None)
        say(f"{self.reference} is not an .npz file: reading its images first (crop: {crop})")
        fraction = self.fraction_of(self.reference, divided=self.split is not None)
        return Target.of_images(
            session, open_crops(self.reference, self.split, size, crop, report, None, fraction), crop
        )


def resumable_in(folder: Path) -> AbstractContextManager[None]:
    """Return a context manager that prints on Ctrl-C, in the main process, that the features in a folder are kept."""
    return resumable(
        f"computed features are kept in {folder}. Repeat the same command to continue." if is_main() else ""
    )
