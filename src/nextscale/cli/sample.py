"""``nextscale sample``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image

from nextscale.cli.sampling import (
    SamplingOptions,
    as_made,
    check_image,
    check_outputs,
    finish,
    load,
    read_like,
    say_shape,
    write,
    write_images,
)
from nextscale.conditioning.prompts import check_prompts, read_prompts
from nextscale.errors import InputError
from nextscale.imaging.images import caption, grid, to_pil
from nextscale.io.files import beside
from nextscale.pipeline import Pipeline
from nextscale.sampling.sampler import ScaleStep

SHOWN_ROWS = 8
OUT = Path("samples.png")
"""Where images are written by default."""


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Generate images or videos.

    Example: nextscale sample --labels dress hat --num-images 20 --cfg 4 --out samples.png

    Example for a text-to-image model: nextscale sample "a fox in the snow" "two red cars" --model infinity-2b --aspect
    16:9

    Example for a video model: nextscale sample "a fox in the snow" --model infinitystar-480p --seconds 5 --out fox.mp4
    """

    prompts: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[PROMPT ...]")] = ()
    """Texts that describe the images. They are repeated until all images have one. For class-conditional models: class
    names, as with --labels."""
    prompts_file: Path | None = None
    """Text file with one prompt per line, instead of PROMPT."""
    labels: tuple[str, ...] = ()
    """Class names or numbers. They are repeated until all images have a class. "none" or "unconditional" means no
    class. Default: random classes."""
    num_images: int | None = None
    """Number of images or videos. Default: the number of --seeds, else the number of prompts or --labels, else 20."""
    out: Path | None = None
    """File for the grid of images. PNG files contain their provenance, which --like reads. Videos are written as .mp4
    (H.264), .webm (VP9), .gif or .webp, with their provenance, or as a strip of 8 frames in an image file. Default:
    samples.png, or samples.mp4 for videos."""
    show_scales: bool = False
    """Also write OUT-scales.png with the result after each scale, one row for each of the first 8 images."""


def run(options: Options) -> None:
    check_outputs(options, options.out or OUT, *(["scales"] if options.show_scales else []))
    like = read_like(options, "sample")
    if like:
        prompts, labels = like.prompts, like.labels
        options = replace(as_made(options, like), prompts=prompts, labels=labels, num_images=like.num_images)
    pipeline = load(options, like)
    texts = texts_of(options, pipeline)
    wanted, count = wanted_and_count(options, texts, pipeline)
    is_text = pipeline.family.takes == "prompt"
    columns: list[list[Image.Image]] = []

    def keep(step: ScaleStep) -> None:
        if options.show_scales:
            h, w = step.size
            columns.append([caption(image, f"{h}x{w}") for image in pipeline.images(step)[:SHOWN_ROWS]])

    settings = options.changed_settings(pipeline)
    sampling = pipeline.scales(
        wanted, num_images=count, seed=options.seed_or_seeds(), settings=settings, **options.request()
    )
    said = {"prompts": texts} if is_text else {}
    made = options.provenance(pipeline, () if is_text else texts, count, **said, frames=sampling.schedule.frames)
    say_shape(options, pipeline, sampling)
    if sampling.schedule.frames > 1:
        from nextscale.cli.videos import write_videos  # most models generate images

        if options.show_scales:
            raise InputError("--show-scales is for images, not for videos")
        one = like and like.index
        print(*write_videos(sampling, pipeline, like if one is not None else made, options, options.out), sep="\n")
        return
    out = options.out or OUT
    check_image(out, sampling, options.model)
    images = to_pil(finish(sampling, pipeline, keep))
    if like and like.index is not None:
        images, made = [images[like.index]], like
    written = write_images(images, made, options, out)
    if options.show_scales:
        rows = [image for row in zip(*columns, strict=True) for image in row]
        written.insert(1, write(grid(rows, columns=len(columns)), beside(out, "scales")))
    print("\n".join(map(str, written)))


def without_space(label: str) -> str:
    """Remove the space before a text that begins with "-". Without the space, it would be read as a flag."""
    return label[1:] if label.startswith(" -") else label


def texts_of(options: Options, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the prompts or the names of classes that the flags name.

    Raises:
        InputError: they are given in several ways, or the model takes the other ones.
    """
    from_file = tuple(read_prompts(options.prompts_file)) if options.prompts_file else ()
    prompts, labels = (tuple(map(without_space, texts)) for texts in (options.prompts, options.labels))
    given = {"PROMPT": prompts, "--prompts-file": from_file, "--labels": labels}
    named = [name for name, texts in given.items() if texts]
    if len(named) > 1:
        raise InputError(f"expected {' or '.join(named)}, got {'both' if len(named) == 2 else 'all of them'}")
    if pipeline.family.takes == "prompt":
        if labels:
            raise InputError(f"{options.model} is a text-to-image model: expected a prompt, not --labels")
        return tuple(check_prompts(prompts or from_file))
    if from_file:
        raise InputError(f"{options.model} is a class-conditional model: expected --labels, not --prompts-file")
    return prompts or labels


def wanted_and_count(options: Options, texts: tuple[str, ...], pipeline: Pipeline) -> tuple[Sequence[Any] | None, int]:
    """Return the prompt or class label of each image, or None for random classes, and the number of images."""
    count = len(options.seeds) or len(texts) or 20 if options.num_images is None else options.num_images
    if count < 1:
        raise InputError(f"num-images must be at least 1, not {count}")
    if not texts:
        return None, count
    if count < len(texts):
        what = "prompts" if pipeline.family.takes == "prompt" else "labels"
        raise InputError(f"{len(texts)} {what} were given for {count} images")
    wanted = texts if pipeline.family.takes == "prompt" else [pipeline.classes.id_of(text) for text in texts]
    return [wanted[i % len(wanted)] for i in range(count)], count
