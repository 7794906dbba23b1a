"""Masks: read them, fit them to an image, fill the hidden pixels, and blend at their edges."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nextscale.editing.placement import Placement
from nextscale.editing.spec import Box
from nextscale.errors import InputError
from nextscale.imaging.images import BLACK, as_image, to_rgb

Mask = Image.Image | np.ndarray | Tensor | str | Path
"""An image, the path of one, or an array (H, W). The masked region is where an image is transparent; where it is
white, if no pixel is transparent; where an array is more than 0.5."""

HALF = 128
"""Grey levels from here on count as white, and alpha levels as opaque."""
ROUNDING = 1e-6
"""Fraction of a pixel by which a box may miss the edge of a pixel: 0.07 * 100 is a little more than 7."""
STEPS = 20
"""Smoothing steps at each resolution of the fill."""


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to cover (H, W) and crop the middle; see `Placement.put`."""
    return Placement.of((image.height, image.width), size).put(image)


def read_mask(mask: Mask) -> np.ndarray:
    """Read a mask as bool (h, w): True where it is transparent, or white if no pixel is transparent.

    Raises:
        InputError: an array that is not (H, W).
    """
    if isinstance(mask, Image.Image | str | Path):
        image = as_image(mask)
        transparent = transparent_part(image)
        return np.asarray(to_rgb(image, BLACK).convert("L")) >= HALF if transparent is None else transparent
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise InputError(f"a mask must be an image or an array (H, W), not {array.dtype} of shape {array.shape}")
    return array > 0.5


def box_pixels(box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels that a box touches, bool (h, w)."""
    masked = np.zeros(size, dtype=bool)
    rows, columns = (
        slice(math.floor(low * side + ROUNDING), math.ceil(high * side - ROUNDING))
        for low, high, side in zip(box[:2], box[2:], size, strict=True)
    )
    masked[rows, columns] = True
    return masked


def transparent_part(image: Image.Image) -> np.ndarray | None:
    """Return bool (h, w), True where alpha is below one half; None if no pixel is transparent."""
    if not image.has_transparency_data or image.mode.startswith("I;16"):
        return None
    transparent = np.asarray(image.convert("RGBA").getchannel("A")) < HALF
    return transparent if transparent.any() else None


def hidden_pixels(hidden: np.ndarray, shape: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the pixels of ``fit(image, size)`` that depend on a hidden pixel.

    Args:
        hidden: bool (h, w), with the aspect ratio of the image or of ``size``.
        shape: (height, width) of the image.
        size: (H, W).

    Returns:
        bool (H, W).

    Raises:
        InputError: a mask with another aspect ratio.
    """
    return place_mask(hidden, Placement.of(shape, size))[0]


def place_mask(hidden: np.ndarray, placement: Placement) -> tuple[Tensor, np.ndarray]:
    """Return the hidden pixels of the canvas and of the image.

    Args:
        hidden: bool of any size, with the aspect ratio of the image or of the canvas.

    Returns:
        Bool (H, W), the pixels of the canvas that depend on a hidden pixel; and bool (h, w), the hidden pixels of the
        image that lie on the canvas.

    Raises:
        InputError: a mask with another aspect ratio.
    """
    image = Image.fromarray(hidden.astype(np.float32))
    (height, width), size, (h, w) = placement.image_size, placement.canvas_size, hidden.shape
    if is_same_shape((h, w), (height, width)):
        image = image.resize((width, height), Image.Resampling.BOX)
        on_canvas = torch.from_numpy(np.asarray(placement.put(image)) > 0)
        return on_canvas, placement.region(torch.ones_like(on_canvas)) & (np.asarray(image) > 0)
    if is_same_shape((h, w), size):
        on_canvas = torch.from_numpy(np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX)) > 0)
        return on_canvas, placement.region(on_canvas)
    raise InputError(
        f"a mask of {w} x {h} pixels does not fit: expected the aspect ratio of the image, {width} x {height}, "
        f"or of the model's images, {size[1]} x {size[0]}"
    )


def is_same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, up to one pixel of the first."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(b)


def fill_hidden(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Fill hidden pixels smoothly from the others: each approaches the mean of its four neighbours.

    Args:
        pixels: (3, H, W). The values of hidden pixels are not used.
        hidden: bool (H, W). If all are hidden, the result is 0.

    Returns:
        (3, H, W), floating point, equal to ``pixels`` where they are not hidden.
    """
    return _membrane(pixels.float().masked_fill(hidden, 0)[None], (~hidden)[None, None])[0]


def _membrane(pixels: Tensor, known: Tensor) -> Tensor:
    """Fill unknown pixels: start from the fill at half the resolution, then smooth.

    Args:
        pixels: (1, 3, h, w), 0 where unknown.
        known: bool (1, 1, h, w).
    """
    h, w = known.shape[2:]
    if max(h, w) == 1:
        return pixels
    sums, count = (F.avg_pool2d(x.float(), 2, ceil_mode=True) for x in (pixels, known))
    guess = _membrane(sums / count.clamp_min(1e-12), count > 0)
    pixels = torch.where(known, pixels, F.interpolate(guess, size=(h, w), mode="bilinear", align_corners=False))
    for _ in range(STEPS):
        edged = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
        mean = (edged[..., :-2, 1:-1] + edged[..., 2:, 1:-1] + edged[..., 1:-1, :-2] + edged[..., 1:-1, 2:]) / 4
        pixels = torch.where(known, pixels, mean)
    return pixels


def feather(hidden: Tensor, softness: float) -> Tensor:
    """Return the weight of the generated image: 0 at kept pixels, rising to 1 over ``softness`` hidden pixels.

    At a distance d from the nearest kept pixel (1 for its neighbours), the weight is min(1, d / (softness + 1)).

    Args:
        hidden: bool (H, W).
        softness: pixels, at least 0; 0 is a sharp edge.

    Returns:
        (H, W) in [0, 1].
    """
    reach = int(np.ceil(softness))
    far = float((reach + 1) ** 2)
    square = torch.where(hidden, far, 0.0)
    for dim in (0, 1):  # the squared Euclidean distance, one side after the other
        lines = square.movedim(dim, -1)
        padded = F.pad(lines, (reach, reach), value=far)
        width = lines.shape[-1]
        shifted = [padded[..., i : i + width] + (i - reach) ** 2 for i in range(2 * reach + 1)]
        square = torch.stack(shifted).amin(0).movedim(-1, dim)
    return (square.sqrt() / (softness + 1)).clamp(max=1)
