"""The drawn images that come closest to training images, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from nextscale.evaluation.gallery import Gallery
from nextscale.evaluation.memorisation import Pair
from nextscale.imaging.images import caption, grid, to_pil


def closest_grid(pairs: Sequence[Pair], drawn: Gallery, training: Gallery, columns: int = 4) -> Image.Image:
    """Each drawn image on the left of the training image nearest to it, with their distance, closest first."""
    shown = []
    for pair in pairs:
        sides = [to_pil(gallery.read([i]).pixels)[0] for gallery, i in ((drawn, pair.drawn), (training, pair.training))]
        shown.append(caption(grid(sides, columns=2), f"{pair.distance:.3g}"))
    return grid(shown, columns=columns, gap=8)
