"""A grid of the sampled images that are closest to training images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from nextscale.evaluation.gallery import Gallery
from nextscale.evaluation.memorisation import Pair
from nextscale.imaging.images import caption, grid, to_pil


def closest_grid(pairs: Sequence[Pair], sampled: Gallery, training: Gallery, columns: int = 4) -> Image.Image:
    """Return a grid of pairs, closest first: the sampled image, its nearest training image, and their distance."""
    shown = []
    for pair in pairs:
        places = ((sampled, pair.sampled), (training, pair.training))
        sides = [to_pil(gallery.read([i]).pixels)[0] for gallery, i in places]
        shown.append(caption(grid(sides, columns=2), f"{pair.distance:.3g}"))
    return grid(shown, columns=columns, gap=8)
