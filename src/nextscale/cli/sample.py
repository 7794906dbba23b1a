"""``nextscale sample``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from nextscale.cli.sampling import SamplingOptions, as_made, beside, draw, load, read_like, write, write_images
from nextscale.errors import InputError
from nextscale.imaging.images import caption, check_writable_image, grid
from nextscale.pipeline import Pipeline
from nextscale.sampling.sampler import ScaleStep

SHOWN_IN_STRIP = 8


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Draw images.

    Example: nextscale sample --labels dress hat --num-images 20 --cfg 4 --out samples.png
    """

    labels: tuple[str, ...] = ()
    """Class names, else numbers, taking turns; "none" or "unconditional" is no class. Left out: classes at random."""
    num_images: int | None = None
    """Images in all. Left out: one for each of the seeds, else of the labels, else 20."""
    out: Path = Path("samples.png")
    """The grid of images. A PNG keeps how it was made, for --like."""
    show_scales: bool = False
    """Also write the images coarse to fine, OUT-scales.png: a row for each of the first 8."""


def run(options: Options) -> None:
    for path in (options.out, beside(options.out, "scales")):
        check_writable_image(path)
    like = read_like(options, "sample")
    if like:
        options = replace(as_made(options, like), labels=like.labels, num_images=like.num_images)
    pipeline = load(options, like)
    labels, count = take_turns(options, pipeline)
    made = options.provenance(pipeline, options.labels, count)
    columns: list[list[Image.Image]] = []

    def keep(step: ScaleStep) -> None:
        h, w = step.size
        columns.append([caption(image, f"{h}x{w}") for image in pipeline.images(step)[:SHOWN_IN_STRIP]])

    see = keep if options.show_scales else None
    images = draw(pipeline, labels, {**options.sampling(), "num_images": count}, see=see)
    if like and like.index is not None:
        images, made = [images[like.index]], like
    written = write_images(images, made, options, options.out)
    if options.show_scales:
        rows = [image for row in zip(*columns, strict=True) for image in row]
        written.insert(1, write(grid(rows, columns=len(columns)), beside(options.out, "scales")))
    print("\n".join(map(str, written)))


def take_turns(options: Options, pipeline: Pipeline) -> tuple[list[int] | None, int]:
    """(class of each image or None for random ones, how many images)."""
    count = len(options.seeds) or len(options.labels) or 20 if options.num_images is None else options.num_images
    if count < 1:
        raise InputError(f"num-images must be at least 1, not {count}")
    if not options.labels:
        return None, count
    ids = [pipeline.class_id(label) for label in options.labels]
    if count < len(ids):
        raise InputError(f"{len(ids)} labels were given for {count} images")
    return [ids[i % len(ids)] for i in range(count)], count
