"""``nextscale evaluate reference``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nextscale.cli.options import height_and_width
from nextscale.errors import InputError
from nextscale.evaluation.extractors import load_extractor
from nextscale.evaluation.reference import write_reference
from nextscale.evaluation.session import Session
from nextscale.evaluation.target import Target
from nextscale.galleries.dataset import Crop, Split, open_crops
from nextscale.io.files import check_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look at real images, and keep in a file what drawn ones are measured against.

    The file says who looked, the size and the crop of the images, and how many there were; "evaluate" refuses one
    that does not fit. It also has the features of 10,000 images, chosen by chance, for precision and recall.

    The default crop, centre, is what published references of ImageNet are made with: halved by means of 2 x 2 pixels
    while it covers twice the size, resized by bicubic interpolation to cover it, the middle cut out.

    Example: nextscale evaluate reference imagenet/ --split val --size 256 --features inception.pth --out val256.npz
    """

    data: Annotated[str, tyro.conf.Positional]
    """Images, as training takes them: a folder, with or without folders of classes; a table; shards; hf:NAME."""
    out: Path
    """File to write, .npz."""
    size: tuple[int, ...]
    """Side of the images that will be measured, or height and width."""
    split: Split | None = None
    """Which part, where there are train/ and val/."""
    crop: Crop = "centre"
    """centre, see above; or training: the middle part that validation in training sees, 1.125 times smaller."""
    features: str = ""
    """Who looks: a file with the Inception of FID, or a folder of "evaluate classifier". See "evaluate"."""
    batch_size: int = 50
    """Images looked at at once."""
    seed: int = 0
    """Of the choice of images whose features are kept."""
    device: str = "auto"
    """auto, cpu, or cuda."""


def run(options: Options) -> None:
    size = height_and_width(options.size)
    for name, least in (("batch_size", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise InputError(f"{name.replace('_', '-')} must be at least {least}, not {getattr(options, name)}")
    if options.out.suffix.lower() != ".npz" or options.out.is_dir():
        raise InputError(f"cannot write {options.out}: expected the name of an .npz file")
    check_folder(options.out.parent)
    features = options.out.with_name(f"{options.out.stem}-features")
    with processes(pick_device(options.device)) as device:
        session = Session(features, load_extractor(options.features, device), device, options.batch_size, options.seed)
        gallery = open_crops(options.data, options.split, size, options.crop, say)
        target = Target.of_images(session, gallery, options.crop)
        target.fill()
        if is_main():
            reference = target.finish()
            write_reference(options.out, reference)
            target.delete()
            if warning := reference.warning():
                say(f"note: {warning}")
            print(options.out)
