"""The image sizes and the scales that training steps of a bitwise tokenizer use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.scales.schedule import ScaleSchedule

DENSE = (*range(1, 17), *range(20, 33, 4), *range(40, 65, 8), *range(80, 129, 16))
"""Sides of the scales of dense schedules, as far as they are below that of the feature grid."""


def dense_schedule(height: int, width: int) -> ScaleSchedule:
    """Return the dense schedule of a feature grid: for a square one of 16 the sides 1, 2, 3 ... 16.

    The scales of other grids have the longer side of the square ones, and the aspect ratio of the grid.
    """
    longer = max(height, width)
    sizes = [(max(round(d * height / longer), 1), max(round(d * width / longer), 1)) for d in DENSE if d < longer]
    return ScaleSchedule((*sizes, (height, width)))


def cut_schedule(schedule: ScaleSchedule, height: int, width: int) -> ScaleSchedule:
    """Return the scales that fit into a smaller feature grid, and the grid itself as the last one."""
    fitting = [(h, w) for h, w in schedule.sizes if h <= height and w <= width and (h, w) != (height, width)]
    return ScaleSchedule((*fitting, (height, width)))


def schedules_of(own: ScaleSchedule, shrink: Sequence[int], dense: bool) -> list[ScaleSchedule]:
    """Return the schedule for each factor by which images are shrunk.

    Args:
        own: the scales on the feature grid of images of full size.
        dense: return dense schedules instead of the scales of ``own``.
    """
    grids = [(own.final_size[0] // factor, own.final_size[1] // factor) for factor in shrink]
    return [dense_schedule(*grid) if dense else cut_schedule(own, *grid) for grid in grids]


def pick_images(batch: Batch, one_of: int, generator: torch.Generator) -> Batch:
    """Keep one of each ``one_of`` neighbouring images, at random. The number of images must be a multiple of it.

    Which one does not depend on the division of the batch.
    """
    if one_of == 1:
        return batch
    part = batch.batch_slice
    chosen = part.random(1, generator=generator).view(-1, one_of).argmax(dim=1)
    indices = chosen + one_of * torch.arange(len(chosen))
    captions = tuple(batch.captions[i] for i in indices.tolist()) if batch.captions else ()
    return batch._replace(
        content=Pixels(batch.images[indices.to(batch.images.device)]),
        labels=batch.labels[indices.to(batch.labels.device)],
        batch_slice=BatchSlice(part.first // one_of, part.count // one_of, part.whole // one_of),
        captions=captions,
    )


def shrink_images(batch: Batch, factor: int) -> Batch:
    """Shrink the images by a factor: each pixel becomes the mean of factor x factor ones."""
    return batch if factor == 1 else batch._replace(content=Pixels(F.avg_pool2d(batch.images, factor)))
