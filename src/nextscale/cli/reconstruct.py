"""``nextscale reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from nextscale.analysis.inspection import fit, inspect
from nextscale.cli.models import Dtype, ModelOptions
from nextscale.editing.placement import Placement
from nextscale.errors import InputError
from nextscale.families.sources import load_tokenizer, only_images
from nextscale.imaging.images import caption, check_writable_image, grid, read_image, save_image
from nextscale.io.files import brief_path
from nextscale.runtime.device import pick_device, precision
from nextscale.runtime.progress import say
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Encode and decode images. Writes each image and its reconstructions after every scale, with their PSNR in dB.

    Images are resized and centre-cropped to the size of the model. Bitwise tokenizers use the aspect that is nearest to
    that of the image.

    Example: nextscale reconstruct photo.jpg other.jpg --out reconstruction.png
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""
    dtype: Dtype = "float32"
    """Precision of matrix products and convolutions."""
    shape: ImageShape = ANY_SHAPE
    """The shape of the images, for bitwise tokenizers."""
    out: Path = Path("reconstruction.png")
    """Image file to write, with one row per image."""


def run(options: Options) -> None:
    if not options.images:
        raise InputError("expected at least one image, got none")
    check_writable_image(options.out)
    if options.out.resolve() in {path.resolve() for path in options.images}:
        raise InputError(
            f"{brief_path(options.out)} is one of the images, which would be overwritten: choose another --out"
        )
    images = [read_image(path) for path in options.images]
    device = pick_device(options.device)
    tokenizer = only_images(load_tokenizer(options.model, options.schedule()), "reconstruct").to(device)
    rows: list[Image.Image] = []
    columns = tokenizer.schedule.num_scales + 1
    for path, image in zip(options.images, images, strict=True):
        given, own = (image.height, image.width), (tokenizer.schedule, tokenizer.config.image_size)
        schedule = options.shape.schedule_for(given, *own)
        placement = Placement.of(given, tokenizer.config.image_size_of(schedule))
        if placement.is_cropped:
            say(f"{brief_path(path)} has {placement.describe()}")
        with precision(options.dtype, device):
            views = inspect(image, tokenizer, schedule)
        rows.append(caption(fit(image, tokenizer, schedule), "original"))
        for view in views:
            h, w = view.size
            rows.append(caption(view.image, f"{h}x{w}: {view.psnr:.1f}"))
        columns = len(views) + 1
        print(f"{path}: {views[-1].psnr:.2f} dB")
    save_image(grid(rows, columns=columns), options.out)
    print(options.out)
