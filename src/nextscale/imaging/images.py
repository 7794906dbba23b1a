"""Tensors <-> pictures, grids of pictures, strips with captions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.files import atomic_file, check_creatable

CAPTION_HEIGHT = 16
LARGEST_ASPECT = 100
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def read_picture(
    file: str | Path | BinaryIO, name: str | Path | None = None, background: tuple[int, int, int] = WHITE
) -> Image.Image:
    """A picture file as RGB, turned as its EXIF says.

    Args:
        file: a path, or an open file.
        name: what messages call it; a path needs none.
        background: what transparency is laid over.

    Raises:
        InputError: the file is missing or not a whole picture.
    """
    return _read(file, name, lambda opened: to_rgb(opened, background))


def read_as_stored(file: str | Path | BinaryIO, name: str | Path | None = None) -> Image.Image:
    """A picture file in the mode that it has, turned as its EXIF says; otherwise as `read_picture`."""
    return _read(file, name, ImageOps.exif_transpose)


def _read(
    file: str | Path | BinaryIO, name: str | Path | None, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    name = name or str(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                return convert(opened)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read {name}: not a picture, or of an unknown format") from error
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        raise InputError(f"cannot read {name} as a picture ({error or type(error).__name__})") from error


def as_rgb(picture: Image.Image | str | Path, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """What a caller hands over as a picture, as `to_rgb` has it; see `as_picture`."""
    return to_rgb(as_picture(picture), background)


def as_picture(picture: Image.Image | str | Path) -> Image.Image:
    """What a caller hands over as a picture, an image or the path of one: upright, in the mode that it has.

    Raises:
        InputError: something else, or a file that is missing or not a whole picture.
    """
    if isinstance(picture, str | Path):
        return read_as_stored(picture)
    if not isinstance(picture, Image.Image):
        raise InputError(f"a picture is a PIL image or the path of a file, not {type(picture).__name__}")
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads a file not before it must
        raise InputError(f"the picture cannot be read ({error})") from error


def to_rgb(picture: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A picture of any kind as RGB, turned as its EXIF says; transparency is laid over the background."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*background, 255)), picture)
    return picture.convert("RGB")


def save_picture(picture: Image.Image, path: str | Path, text: PngInfo | None = None) -> None:
    """Write a PNG (or what the file's ending says), whole or not at all.

    Args:
        text: goes into a PNG beside the picture; other formats are written without.

    Raises:
        InputError: an unknown ending, or a folder that is not writable.
    """
    path = Path(path)
    kind = picture_format(path)
    with atomic_file(path) as temporary:
        picture.save(temporary, format=kind, **({"pnginfo": text} if kind == "PNG" else {}))


def check_writable_picture(path: Path) -> None:
    """Raises InputError now if `save_picture` could not write there later."""
    picture_format(path)
    check_creatable(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected the name of a picture file")


def picture_format(path: Path) -> str:
    """Pillow's name for the format of a file's ending."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"cannot tell the picture format of {path}: expected an ending of {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def to_tensor(picture: Image.Image) -> Tensor:
    """RGB picture -> (3, H, W) in [-1, 1]."""
    return to_unit_range(torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1))


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """[0, 1] -> uint8 0..255, rounded to the nearest."""
    return images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W), uint8 or floating point in [0, 1] -> B pictures."""
    pixels = images if images.dtype == torch.uint8 else to_pixels(images)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def cover(
    picture: Image.Image, size: tuple[int, int], filter: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The smallest picture of the same shape that covers (H, W).

    Raises:
        InputError: a picture so narrow that this would take more than `LARGEST_ASPECT` times the area of (H, W).
    """
    w, h = picture.size
    scale = max(size[0] / h, size[1] / w)
    if scale * scale * w * h > LARGEST_ASPECT * size[0] * size[1]:
        raise InputError(
            f"a picture of {w} x {h} pixels is too narrow: to cover {size[1]} x {size[0]}, "
            f"its longer side may be at most {LARGEST_ASPECT} times the shorter"
        )
    return picture.resize((max(size[1], round(w * scale)), max(size[0], round(h * scale))), filter)


def centre_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle (H, W) of a picture at least that large."""
    left, top = round((picture.width - size[1]) / 2), round((picture.height - size[0]) / 2)
    return picture.crop((left, top, left + size[1], top + size[0]))


def adm_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest middle part of a picture as (H, W), as the ADM's code cuts ImageNet.

    Halved by means of 2 x 2 pixels while it covers twice the size, then resized by bicubic interpolation.
    """
    while picture.height >= 2 * size[0] and picture.width >= 2 * size[1]:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    picture = cover(picture, size, Image.Resampling.BICUBIC)
    left, top = (picture.width - size[1]) // 2, (picture.height - size[0]) // 2
    return picture.crop((left, top, left + size[1], top + size[0]))


def grid(pictures: Sequence[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures of one size in rows, nearly square unless ``columns`` is given."""
    columns = min(columns or int(np.ceil(np.sqrt(len(pictures)))), len(pictures))
    rows = -(-len(pictures) // columns)
    w, h = pictures[0].size
    sheet = Image.new("RGB", (columns * (w + gap) - gap, rows * (h + gap) - gap), WHITE)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (w + gap), i // columns * (h + gap)))
    return sheet


def caption(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a line of text below it."""
    sheet = Image.new("RGB", (picture.width, picture.height + CAPTION_HEIGHT), WHITE)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    middle = (picture.width / 2, picture.height + CAPTION_HEIGHT / 2)
    draw.text(middle, text, fill=(60, 60, 60), anchor="mm", font=ImageFont.load_default(10))
    return sheet
