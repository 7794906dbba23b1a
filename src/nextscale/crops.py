"""A data set's pictures in one crop, as a gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from nextscale.data.dataset import validation_crop
from nextscale.data.source import PictureSource
from nextscale.data.splits import absolute_name, find_sources
from nextscale.errors import InputError
from nextscale.evaluation.gallery import Pictures
from nextscale.pictures import adm_crop

Crop = Literal["centre", "training"]
Split = Literal["train", "val"]
CROPS: Mapping[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "centre": adm_crop,
    "training": validation_crop,
}


class CroppedPictures:
    """The pictures of a data set, brought to (H, W).

    Args:
        data: its name.
        source: one of its splits.
        crop: ``centre``, the largest middle part, as the ADM evaluator's references of ImageNet are cut; or
            ``training``, the middle part that validation in training sees, which is 1.125 times smaller.
        report: told of each picture that cannot be read, and is left out.
    """

    def __init__(
        self,
        data: str,
        source: PictureSource,
        size: tuple[int, int],
        crop: Crop,
        report: Callable[[str], None],
        split: str = "",
    ):
        self.name = f"{data} ({split})" if split else data
        self.source, self.size, self.crop, self.report = source, size, crop, report
        self.class_names = source.class_names
        self.made_from: dict[str, Any] = {
            "data": absolute_name(data),
            "split": split,
            "count": len(source),
            "size": list(size),
            "crop": crop,
        }

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int]) -> Pictures:
        pixels, read = [torch.zeros(0, 3, *self.size, dtype=torch.uint8)], []
        for i in indices:
            try:
                picture = CROPS[self.crop](self.source.read(i), self.size)
            except InputError as error:
                name, reason = self.source.name(i), str(error)
                self.report(f"left out: {reason if name in reason else f'{name}: {reason}'}")
                continue
            pixels.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0))
            read.append(i)
        labels = torch.tensor([self.source.labels[i] for i in read], dtype=torch.long)
        return Pictures(torch.cat(pixels), torch.tensor(read, dtype=torch.long), labels)


def open_crops(
    data: str,
    split: Split | None,
    size: tuple[int, int],
    crop: Crop,
    report: Callable[[str], None],
    prefer: Split | None = None,
) -> CroppedPictures:
    """A split of a data set.

    Args:
        data: what `find_sources` takes.
        split: None for data that are not parted, or for the preferred part of those that are.
        prefer: None for none.

    Raises:
        InputError: no such data or split, or parts of which none was chosen.
    """
    train, val = find_sources(data)
    split = split or (prefer if val is not None else None)
    if split is None and val is not None:
        raise InputError(f"{data} has both train and val: expected --split {' or --split '.join(get_args(Split))}")
    if split == "val" and val is None:
        raise InputError(f"{data} has no val, only {len(train)} pictures to train on")
    source = val if split == "val" and val is not None else train
    return CroppedPictures(data, source, size, crop, report, split or "")
