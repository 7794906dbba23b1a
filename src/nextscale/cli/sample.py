"""``nextscale sample``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from nextscale.cli.sampling import (
    SamplingOptions,
    as_made,
    check_outputs,
    finish,
    load,
    read_like,
    write,
    write_images,
)
from nextscale.errors import InputError
from nextscale.imaging.images import caption, grid, to_pil
from nextscale.io.files import beside
from nextscale.pipeline import Pipeline
from nextscale.sampling.sampler import ScaleStep

SHOWN_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Generate images.

    Example: nextscale sample --labels dress hat --num-images 20 --cfg 4 --out samples.png
    """

    labels: tuple[str, ...] = ()
    """Class names or numbers. They are repeated until all images have a class. "none" or "unconditional" means no
    class. Default: random classes."""
    num_images: int | None = None
    """Number of images. Default: the number of --seeds, else the number of --labels, else 20."""
    out: Path = Path("samples.png")
    """File for the grid of images. PNG files contain their provenance, which --like reads."""
    show_scales: bool = False
    """Also write OUT-scales.png with the result after each scale, one row for each of the first 8 images."""


def run(options: Options) -> None:
    check_outputs(options, options.out, *(["scales"] if options.show_scales else []))
    like = read_like(options, "sample")
    if like:
        options = replace(as_made(options, like), labels=like.labels, num_images=like.num_images)
    options = replace(options, labels=tuple(without_space(label) for label in options.labels))
    pipeline = load(options, like)
    labels, count = labels_and_count(options, pipeline)
    made = options.provenance(pipeline, options.labels, count)
    columns: list[list[Image.Image]] = []

    def keep(step: ScaleStep) -> None:
        if options.show_scales:
            h, w = step.size
            columns.append([caption(image, f"{h}x{w}") for image in pipeline.images(step)[:SHOWN_ROWS]])

    sampling = pipeline.scales(labels, num_images=count, seed=options.seed_or_seeds(), settings=options.settings)
    images = to_pil(finish(sampling, pipeline, keep))
    if like and like.index is not None:
        images, made = [images[like.index]], like
    written = write_images(images, made, options, options.out)
    if options.show_scales:
        rows = [image for row in zip(*columns, strict=True) for image in row]
        written.insert(1, write(grid(rows, columns=len(columns)), beside(options.out, "scales")))
    print("\n".join(map(str, written)))


def without_space(label: str) -> str:
    """Remove the space before a class name that begins with "-". Without the space, it would be read as a flag."""
    return label[1:] if label.startswith(" -") else label


def labels_and_count(options: Options, pipeline: Pipeline) -> tuple[list[int] | None, int]:
    """Return the class label of each image, or None for random ones, and the number of images."""
    count = len(options.seeds) or len(options.labels) or 20 if options.num_images is None else options.num_images
    if count < 1:
        raise InputError(f"num-images must be at least 1, not {count}")
    if not options.labels:
        return None, count
    ids = [pipeline.classes.id_of(label) for label in options.labels]
    if count < len(ids):
        raise InputError(f"{len(ids)} labels were given for {count} images")
    return [ids[i % len(ids)] for i in range(count)], count
