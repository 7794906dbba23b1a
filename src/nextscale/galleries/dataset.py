"""The images of a data set as a gallery, with one or more crops of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nextscale.data.dataset import cover_with_margin, random_crop, validation_crop
from nextscale.data.held_out import held_out_fraction, hold_out
from nextscale.data.source import ImageSource
from nextscale.data.splits import absolute_name, find_sources
from nextscale.errors import InputError
from nextscale.evaluation.gallery import FILES, ImageBatch
from nextscale.evaluation.reference import kept_images
from nextscale.imaging.images import adm_crop
from nextscale.runtime.distributed import is_main

Crop = Literal["centre", "training"]
Split = Literal["train", "val"]
EVERY_WAY = "centre and training, each also mirrored"
AS_LEARNT = "at random as in training, mirrored"
Cut = Callable[[Image.Image, tuple[int, int], int], Image.Image]
"""Function (image, (H, W), number of the image) -> image cropped to (H, W)."""


def centre(image: Image.Image, size: tuple[int, int], number: int) -> Image.Image:
    """Crop the largest centred part, as in the ADM evaluator's references of ImageNet."""
    return adm_crop(image, size)


def training(image: Image.Image, size: tuple[int, int], number: int) -> Image.Image:
    """Crop the centre as training does for validation, 1.125 times smaller than the largest centre crop."""
    return validation_crop(image, size)


def at_random(image: Image.Image, size: tuple[int, int], number: int) -> Image.Image:
    """Crop a random part as training does. The number of the image is the seed, so the crop is reproducible."""
    return Image.fromarray(random_crop(np.array(cover_with_margin(image, size)), size, np.random.default_rng(number)))


def mirrored(cut: Cut) -> Cut:
    """Return a crop function that also mirrors the image."""
    return lambda image, size, number: ImageOps.mirror(cut(image, size, number))


CUTS: Mapping[str, tuple[Cut, ...]] = {
    "centre": (centre,),
    "training": (training,),
    EVERY_WAY: (centre, mirrored(centre), training, mirrored(training)),
    AS_LEARNT: (mirrored(at_random),),
}


class CroppedImages:
    """The images of a data set, resized and cropped to (H, W). Each image appears once for every function of ``crop``.

    Args:
        data: name of the data set.
        source: a split of the data set.
        crop: a key of `CUTS`.
        report: called with a message for each image that cannot be read; the image is skipped.
        split: name of the split.
        chosen: numbers of the images to use; None uses all.
    """

    def __init__(
        self,
        data: str,
        source: ImageSource,
        size: tuple[int, int],
        crop: str,
        report: Callable[[str], None],
        split: str = "",
        chosen: Sequence[int] | None = None,
    ):
        self.name = f"{data} ({split})" if split else data
        self.source, self.size, self.crop, self.report = source, size, crop, report
        self.class_names = source.class_names
        self.chosen = range(len(source)) if chosen is None else chosen
        self.made_from: dict[str, Any] = {
            "data": absolute_name(data),
            "split": split,
            FILES: source.stamp(),
            "count": len(self.chosen),
            "size": list(size),
            "crop": crop,
        }
        if fraction := held_out_fraction(source):
            self.made_from["val_fraction"] = fraction

    def __len__(self) -> int:
        return len(self.chosen) * len(CUTS[self.crop])

    def at_random(self, most: int, seed: int) -> CroppedImages:
        """Return at most ``most`` randomly chosen images, each cropped at random as in training."""
        other = copy(self)
        other.crop, other.name = AS_LEARNT, f"random mirrored crops of {self.name}"
        other.chosen = [self.chosen[i] for i in kept_images(len(self.chosen), seed, most).tolist()]
        other.made_from = self.made_from | {"crop": AS_LEARNT, "count": len(other.chosen), "seed": seed}
        return other

    def number(self, index: int) -> int:
        """Return the number in ``source`` of an image of the gallery."""
        return self.chosen[index // len(CUTS[self.crop])]

    def read(self, indices: Sequence[int]) -> ImageBatch:
        cuts = CUTS[self.crop]
        pixels, read = [torch.zeros(0, 3, *self.size, dtype=torch.uint8)], []
        for number, group in groupby(indices, self.number):
            here = list(group)
            try:
                image = self.source.read(number)
                pixels += [to_row(cuts[i % len(cuts)](image, self.size, number)) for i in here]
            except InputError as error:
                name, reason = self.source.name(number), str(error)
                self.report(f"skipped: {reason if name in reason else f'{name}: {reason}'}")
                continue
            read += here
        labels = torch.tensor([self.source.labels[self.number(i)] for i in read], dtype=torch.long)
        return ImageBatch(torch.cat(pixels), torch.tensor(read, dtype=torch.long), labels)


def to_row(image: Image.Image) -> Tensor:
    """Return an image as uint8 (1, 3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)


def check_apart(training: CroppedImages, held_out: CroppedImages) -> None:
    """Raise InputError if the held-out images are the training images."""
    if training.made_from[FILES] == held_out.made_from[FILES]:
        raise InputError(
            f"{held_out.name} is both training and held out: expected images that the model was not trained on"
        )


def open_crops(
    data: str,
    split: Split | None,
    size: tuple[int, int],
    crop: str,
    report: Callable[[str], None],
    prefer: Split | None = None,
    val_fraction: float = 0,
) -> CroppedImages:
    """Open a split of a data set as a gallery.

    Args:
        data: a name or path that `find_sources` accepts.
        split: train or val; None for data without splits, or for the preferred split.
        size: (H, W) of the images.
        crop: a key of `CUTS`.
        report: called with a message for each image that cannot be read, and with the notes of the data.
        prefer: the split to use if ``split`` is None and the data has splits.
        val_fraction: fraction of the images that are val if the data has no splits; see `hold_out`.

    Raises:
        InputError: the data or the split does not exist, or the data has splits and none was chosen.
    """
    train, val = hold_out(find_sources(data), val_fraction)
    split = split or (prefer if val is not None else None)
    if split is None and val is not None:
        raise InputError(f"{data} has both train and val: expected --split {' or --split '.join(get_args(Split))}")
    if split == "val" and val is None:
        expected = "two images of a class" if val_fraction else "a --val-fraction above 0"
        raise InputError(f"{data} has no split val, only {len(train)} training images: expected {expected}")
    source = val if split == "val" and val is not None else train
    if is_main():
        for note in dict.fromkeys((*train.notes, *source.notes)):
            report(note)
    return CroppedImages(data, source, size, crop, report, split or "")
