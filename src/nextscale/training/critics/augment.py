"""DiffAugment (arXiv 2006.10738): differentiable random augmentation of real and reconstructed images.

It keeps the critic from memorising small data sets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nextscale.data.loader import BatchSlice

SHIFT = 1 / 8
"""Largest shift, as a fraction of the side."""
HOLE = 1 / 2
"""Side of the hole, as a fraction of the image's side."""


class Augmentation(NamedTuple):
    """Parameters of the augmentation of B images. Each tensor is (B, n), uniform in [0, 1)."""

    colour: Tensor
    """Brightness, saturation, contrast: n = 3."""
    shift: Tensor
    """Vertical and horizontal shift: n = 2."""
    hole: Tensor
    """Vertical and horizontal position of the hole's centre: n = 2."""


def random_augmentation(batch_slice: BatchSlice, generator: torch.Generator, device: torch.device) -> Augmentation:
    """Return random parameters for the images of a part of a batch."""
    return Augmentation(*(batch_slice.random(n, generator=generator).to(device) for n in (3, 2, 2)))


def augment(images: Tensor, how: Augmentation) -> Tensor:
    """Apply colour changes, shift and hole: (B, 3, H, W) in [-1, 1] -> (B, 3, H, W), possibly beyond [-1, 1]."""
    return cut(shift(recolour(images, how.colour), how.shift), how.hole)


def recolour(images: Tensor, colour: Tensor) -> Tensor:
    """Change brightness, saturation and contrast, in this order.

    The three steps are x + b - 0.5, grey + 2 s (x - grey), and mean + (c + 0.5) (x - mean).

    Args:
        colour: (B, 3) in [0, 1), the values b, s and c of each image.
    """
    brightness, saturation, contrast = (value.view(-1, 1, 1, 1) for value in colour.unbind(1))
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def shift(images: Tensor, by: Tensor) -> Tensor:
    """Shift each image by up to `SHIFT` of its side, and fill with 0."""
    (h, w), (down, right) = images.shape[-2:], by.unbind(1)
    rows, inside_rows = _source(h, down)
    columns, inside_columns = _source(w, right)
    batch = torch.arange(len(images), device=images.device)
    moved = images.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
    return (moved * (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(-1)).permute(0, 3, 1, 2)


def cut(images: Tensor, where: Tensor, hole: float = HOLE) -> Tensor:
    """Set a rectangle of each image to 0.

    Args:
        where: (B, 2) in [0, 1), the centre of the rectangle. It may lie anywhere in the image.
        hole: sides of the rectangle as a fraction of the image's sides.
    """
    (h, w), (down, right) = images.shape[-2:], where.unbind(1)
    hidden = _near(h, down, hole)[:, :, None] & _near(w, right, hole)[:, None, :]
    return images * ~hidden.unsqueeze(1)


def _source(side: int, by: Tensor) -> tuple[Tensor, Tensor]:
    """Return the source index of each row, and whether it lies inside the image: two tensors (B, side)."""
    most = round(SHIFT * side)
    offset = (by * (2 * most + 1)).long() - most
    source = torch.arange(side, device=by.device) - offset[:, None]
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _near(side: int, middle: Tensor, hole: float) -> Tensor:
    """Return a mask of the rows in the hole: (B, side) bool."""
    centre = (middle * (side + 1)).long()
    offset = 2 * (torch.arange(side, device=middle.device) - centre[:, None])
    return (offset >= -hole * side) & (offset < hole * side)
