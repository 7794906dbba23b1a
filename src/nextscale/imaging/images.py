"""Read, write and convert images; grids of images; captions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.files import atomic_file, brief_path, check_creatable, check_no_folder

CAPTION_HEIGHT = 16
LARGEST_ASPECT = 100
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag of the rotation, and its values that exchange width and height."""
T = TypeVar("T")
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def read_image(
    file: str | Path | BinaryIO, name: str | Path | None = None, background: tuple[int, int, int] = WHITE
) -> Image.Image:
    """Read an image file as RGB, rotated as its EXIF data says.

    Args:
        file: a path, or an open file.
        name: name for error messages; the path by default.
        background: colour behind transparent pixels.

    Raises:
        InputError: the file is missing or not a complete image.
    """
    return _read(file, name, lambda opened: to_rgb(opened, background))


def read_as_stored(file: str | Path | BinaryIO, name: str | Path | None = None) -> Image.Image:
    """Read an image file in its own mode, rotated as its EXIF data says. See `read_image`."""
    return _read(file, name, ImageOps.exif_transpose)


def _read(file: str | Path | BinaryIO, name: str | Path | None, convert: Callable[[Image.Image], T]) -> T:
    name = name or str(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                return convert(opened)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read {name}: not an image, or an unknown format") from error
    except Exception as error:  # Pillow's plugins raise all kinds of errors on damaged files
        raise InputError(f"cannot read {name} as an image ({error or type(error).__name__})") from error


def read_ratio(file: str | Path | BinaryIO, name: str | Path | None = None) -> float:
    """Return height / width of an image file, rotated as its EXIF data says. Reads no more than the file's header.

    Raises:
        InputError: the file is missing or not an image.
    """
    return _read(file, name, _ratio)


def _ratio(image: Image.Image) -> float:
    h, w = image.height, image.width
    return w / h if image.getexif().get(ORIENTATION) in SIDEWAYS else h / w


def as_rgb(image: Image.Image | str | Path, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Return an image, or read the path of one, as RGB. See `as_image` and `to_rgb`."""
    return to_rgb(as_image(image), background)


def as_image(image: Image.Image | str | Path) -> Image.Image:
    """Return an image, or read the path of one, in its own mode, rotated as its EXIF data says.

    Raises:
        InputError: neither an image nor a path, or a file that is missing or not a complete image.
    """
    if isinstance(image, str | Path):
        return read_as_stored(image)
    if not isinstance(image, Image.Image):
        raise InputError(f"an image must be a PIL image or a path, not {type(image).__name__}")
    try:
        return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads files lazily
        raise InputError(f"the image cannot be read ({error})") from error


def to_rgb(image: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Convert an image to RGB, rotated as its EXIF data says. Transparent pixels show the background.

    Raises:
        InputError: Pillow cannot convert the image's mode.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # Pillow would clip the values to 8 bits
        image = to_grey_levels(image)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"an image of mode {image.mode} cannot be converted to RGB") from error


def to_grey_levels(image: Image.Image) -> Image.Image:
    """Convert an image of 16-bit, 32-bit or floating-point values to 256 grey levels (mode "L").

    White is 65,535 for 16-bit values. For others, it is the first of 1 (floating point only), 255 and 65,535 that no
    value exceeds. If a value is negative or exceeds them all, black is the smallest and white the largest value. Values
    that are not finite become black.
    """
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16"):
        return Image.fromarray((values / 257).round().astype(np.uint8))
    finite = np.isfinite(values)
    low, high = values.min(initial=np.inf, where=finite), values.max(initial=-np.inf, where=finite)
    whites = [white for white in ((1, 255, 65535) if image.mode == "F" else (255, 65535)) if high <= white]
    black, white = (0, whites[0]) if whites and low >= 0 else (low, high)
    levels = (np.where(finite, values, black) - black) * (255 / max(white - black, 1e-300))
    return Image.fromarray(levels.round().astype(np.uint8))


def save_image(image: Image.Image, path: str | Path, text: PngInfo | None = None) -> None:
    """Write an image in the format of the file's extension. An existing file is replaced only by a complete one.

    Args:
        text: metadata for a PNG. Other formats are written without it.

    Raises:
        InputError: an unknown extension, or a folder that is not writable.
    """
    path = Path(path)
    kind = image_format(path)
    with atomic_file(path) as temporary:
        image.save(temporary, format=kind, **({"pnginfo": text} if kind == "PNG" else {}))


def check_writable_image(path: Path) -> None:
    """Raise InputError if `save_image` cannot write to the path."""
    check_no_folder(path, "an image file")
    image_format(path)
    check_creatable(path)


def image_format(path: Path) -> str:
    """Return Pillow's name of the format of a file extension."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"unknown image format of {brief_path(path)}: expected one of the extensions {', '.join(FORMATS)}"
        )
    return FORMATS[path.suffix.lower()]


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB image to (3, H, W) in [-1, 1]."""
    return to_unit_range(torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1))


def to_unit_range(pixels: Tensor) -> Tensor:
    """Convert uint8 0..255 to float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """Convert [0, 1] to uint8 0..255, rounded to nearest.

    Raises:
        InputError: a value is not finite. As a pixel, it would be black.
    """
    if not torch.isfinite(images).all():
        raise InputError("an image has values that are not finite: the weights of the model are damaged")
    return images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Convert (B, 3, H, W), uint8 or floating point in [0, 1], to B images."""
    pixels = images if images.dtype == torch.uint8 else to_pixels(images)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def cover(
    image: Image.Image, size: tuple[int, int], filter: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """Resize an image to the smallest size that covers (H, W), keeping its aspect ratio.

    Raises:
        InputError: the result would have more than `LARGEST_ASPECT` times the area of (H, W).
    """
    height, width = covering_size((image.height, image.width), size)
    return image.resize((width, height), filter)


def covering_size(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest (height, width) of an image that covers (H, W), with the aspect ratio of ``shape``.

    Raises:
        InputError: it has more than `LARGEST_ASPECT` times the area of (H, W).
    """
    h, w = shape
    scale = max(size[0] / h, size[1] / w)
    if scale * scale * w * h > LARGEST_ASPECT * size[0] * size[1]:
        raise InputError(
            f"an image of {w} x {h} pixels is too narrow: to cover {size[1]} x {size[0]}, "
            f"its longer side may be at most {LARGEST_ASPECT} times the shorter"
        )
    return max(size[0], round(h * scale)), max(size[1], round(w * scale))


def contained_size(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (height, width) of an image inside (H, W), with the aspect ratio of ``shape``."""
    h, w = shape
    scale = min(size[0] / h, size[1] / w)
    return max(1, min(size[0], round(h * scale))), max(1, min(size[1], round(w * scale)))


def centre_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop the middle (H, W) of an image that is at least as large."""
    left, top = round((image.width - size[1]) / 2), round((image.height - size[0]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


def infinity_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to just cover (H, W) and crop its middle, as the official Infinity code does.

    Raises:
        InputError: see `covering_size`.
    """
    width, height = infinity_size(image.size, size)
    covering_size((image.height, image.width), size)  # refuses very narrow images
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image.crop((left, top, left + size[1], top + size[0]))


def infinity_size(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) that an image of (width, height) is resized to; see `infinity_crop`."""
    ratio = shape[0] / shape[1]
    if ratio <= size[1] / size[0]:
        return size[1], max(size[0], int(size[1] / ratio))
    return max(size[1], int(ratio * size[0])), size[0]


def adm_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop and resize the largest middle part of an image to (H, W), as the ADM code preprocesses ImageNet.

    The image is halved by averaging 2 x 2 pixels while it covers twice the size, then resized bicubically.
    """
    while image.height >= 2 * size[0] and image.width >= 2 * size[1]:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    image = cover(image, size, Image.Resampling.BICUBIC)
    left, top = (image.width - size[1]) // 2, (image.height - size[0]) // 2
    return image.crop((left, top, left + size[1], top + size[0]))


def grid(images: Sequence[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Arrange images in a grid, nearly square unless ``columns`` is given. Smaller ones are centred in their cells."""
    columns = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    rows = -(-len(images) // columns)
    w, h = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (columns * (w + gap) - gap, rows * (h + gap) - gap), WHITE)
    for i, image in enumerate(images):
        x, y = i % columns * (w + gap), i // columns * (h + gap)
        sheet.paste(image, (x + (w - image.width) // 2, y + (h - image.height) // 2))
    return sheet


def caption(image: Image.Image, text: str) -> Image.Image:
    """Return the image with a line of text below it."""
    sheet = Image.new("RGB", (image.width, image.height + CAPTION_HEIGHT), WHITE)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    middle = (image.width / 2, image.height + CAPTION_HEIGHT / 2)
    draw.text(middle, text, fill=(60, 60, 60), anchor="mm", font=ImageFont.load_default(10))
    return sheet
