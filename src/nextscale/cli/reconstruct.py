"""``nextscale reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from PIL import Image

from nextscale.cli.models import ModelOptions
from nextscale.device import pick_device, precision
from nextscale.errors import InputError
from nextscale.pictures import (
    caption,
    centre_crop,
    check_writable_picture,
    cover,
    grid,
    read_picture,
    save_picture,
    to_pictures,
    to_tensor,
)
from nextscale.quality import psnr
from nextscale.sources import load_tokenizer
from nextscale.tokenizer.tokenizer import ImageTokenizer


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
            row, quality = reconstruct(picture, tokenizer)
        rows += row
        print(f"{path}: {quality:.2f} dB")
    save_picture(grid(rows, columns=tokenizer.schedule.num_scales + 1), options.out)
    print(options.out)


@torch.no_grad()
def reconstruct(picture: Image.Image, tokenizer: ImageTokenizer) -> tuple[list[Image.Image], float]:
    """(the original and the reconstruction after each scale, with captions; the last one's PSNR in dB)."""
    size = tokenizer.config.image_size
    original = centre_crop(cover(picture, size), size)
    image = to_tensor(original).unsqueeze(0).to(tokenizer.quant_conv.weight.device)
    row, quality = [caption(original, "original")], 0.0
    for step in tokenizer.pyramid.accumulate(tokenizer.encode(image)):
        decoded = tokenizer.decode_canvas(step.canvas)
        quality = psnr(decoded, image).item()
        h, w = tokenizer.schedule.sizes[step.index]
        row.append(caption(to_pictures((decoded + 1) / 2)[0], f"{h}x{w}: {quality:.1f}"))
    return row, quality
