"""``nextscale reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from nextscale.analysis.inspection import fit, inspect
from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.families.sources import load_tokenizer
from nextscale.imaging.images import caption, check_writable_picture, grid, read_picture, save_picture
from nextscale.runtime.device import pick_device, precision


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Encode pictures, decode them again: the original beside the reconstruction after each scale, with its PSNR.

    Pictures are resized to the model's size and cropped in the middle.

    Example: nextscale reconstruct photo.jpg other.jpg --out reconstruction.png
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Picture files."""
    out: Path = Path("reconstruction.png")
    """A row for each picture."""


def run(options: Options) -> None:
    if not options.images:
        raise InputError("expected at least one picture, got none")
    check_writable_picture(options.out)
    pictures = [read_picture(path) for path in options.images]
    device = pick_device(options.device)
    tokenizer = load_tokenizer(options.model, options.schedule()).to(device)
    rows: list[Image.Image] = []
    for path, picture in zip(options.images, pictures, strict=True):
        with precision(options.dtype, device):
            views = inspect(picture, tokenizer)
        rows.append(caption(fit(picture, tokenizer), "original"))
        for view in views:
            h, w = view.size
            rows.append(caption(view.picture, f"{h}x{w}: {view.psnr:.1f}"))
        print(f"{path}: {views[-1].psnr:.2f} dB")
    save_picture(grid(rows, columns=tokenizer.schedule.num_scales + 1), options.out)
    print(options.out)
