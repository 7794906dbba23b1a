"""``nextscale evaluate reference``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.cli.evaluation import resumable_in
from nextscale.cli.options import height_and_width
from nextscale.data.held_out import ValidationSettings
from nextscale.errors import InputError
from nextscale.evaluation.extractors import load_extractor
from nextscale.evaluation.reference import write_reference
from nextscale.evaluation.session import Session
from nextscale.evaluation.target import Target
from nextscale.galleries.dataset import Crop, Split, open_crops
from nextscale.io.files import beside, check_creatable, check_folder, check_no_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say


@dataclass(frozen=True, kw_only=True)
class Options(ValidationSettings):
    """Write a reference file with the statistics of real images. "evaluate" compares sampled images with it.

    The file records the network, and the size, crop and number of the images. "evaluate" checks that they fit. The file
    also contains the features of 10,000 randomly chosen images, for precision and recall.

    The default crop is centre, as in published references of ImageNet: the image is halved by averaging 2 x 2 pixels
    while it is at least twice the size, then resized with bicubic interpolation, and cropped around its centre.

    Example: nextscale evaluate reference imagenet/ --split val --size 256 --features inception.pth --out val256.npz
    """

    data: Annotated[str, tyro.conf.Positional]
    """Real images: a folder, with or without sub-folders for classes; a .csv table; .tar shards; or hf:NAME."""
    out: Path
    """The .npz file to write."""
    size: tuple[int, ...]
    """Size in pixels of the images to evaluate: one number for squares, or height and width."""
    split: Split | None = None
    """Part of the data to use. Required if the data has train/ and val/. Otherwise, the default is all images, and
    train and val are the parts that training uses; see --val-fraction."""
    crop: Crop = "centre"
    """How images are cropped. centre: see above. training: the crop that training uses for its validation
    images, 1.125 times smaller than centre."""
    features: str = ""
    """Feature extractor: a file with the weights of Inception, OWNER/NAME:FILE on the Hugging Face hub, or a folder of
    "evaluate classifier". Default: the Inception that torch-fidelity or pytorch-fid has downloaded."""
    batch_size: int = 50
    """Number of images per batch."""
    seed: int = 0
    """Seed for choosing the images whose features are stored."""
    device: str = "auto"
    """auto, cpu, or cuda."""


def run(options: Options) -> None:
    size = height_and_width(options.size)
    for name, least in (("batch_size", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {getattr(options, name)}")
    check_no_folder(options.out, "an .npz file")
    if options.out.suffix.lower() != ".npz":
        raise InputError(f"cannot write {options.out}: expected the name of an .npz file")
    check_creatable(options.out)
    features = beside(options.out, "features", "")
    check_folder(features)
    with processes(pick_device(options.device)) as device, resumable_in(features):
        session = Session(features, load_extractor(options.features, device), device, options.batch_size, options.seed)
        fraction = options.fraction(options.split is not None)
        gallery = open_crops(options.data, options.split, size, options.crop, say, val_fraction=fraction)
        target = Target.of_images(session, gallery, options.crop)
        target.fill()
        if is_main():
            reference = target.finish()
            write_reference(options.out, reference)
            target.delete()
            if warning := reference.warning():
                say(f"note: {warning}")
            print(options.out)
