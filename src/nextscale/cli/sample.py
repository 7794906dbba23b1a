"""``nextscale sample``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nextscale.cli.models import ModelOptions
from nextscale.errors import InputError
from nextscale.pictures import caption, check_writable_picture, grid, save_picture
from nextscale.pipeline import Pipeline

SHOWN_IN_STRIP = 8


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Draw pictures.

    Example: nextscale sample --labels dress hat --num-images 20 --cfg 4 --out samples.png
    """

    labels: tuple[str, ...] = ()
    """Class names, else numbers, taking turns; "none" draws without a class. Left out: classes at random."""
    num_images: int | None = None
    """Pictures in all. Left out: one for each label, or 20."""
    cfg: float = 4.0
    """Guidance: 0 is none, 1.5 is for metrics, 4 for looks."""
    top_k: int = 900
    """Draw among the k most probable tokens; 0 is all."""
    top_p: float = 0.95
    """Draw among the most probable tokens that together reach p; 0 is all."""
    more_smooth: bool = False
    """Mix codes by Gumbel-softmax: smoother pictures, not for metrics."""
    out: Path = Path("samples.png")
    """The grid of pictures."""
    separate: bool = False
    """Also write every picture alone, OUT-000.png ..."""
    show_scales: bool = False
    """Also write the pictures coarse to fine, OUT-scales.png: a row for each of the first 8."""


def run(options: Options) -> None:
    for path in (options.out, beside(options.out, "scales")):
        check_writable_picture(path)
    pipeline = Pipeline.from_pretrained(options.model, options.device, options.dtype, options.schedule())
    labels, count = take_turns(options.labels, options.num_images, pipeline)
    steps = pipeline.scales(
        labels,
        num_images=count,
        cfg=options.cfg,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        more_smooth=options.more_smooth,
    )
    pictures: list[Image.Image] = []
    columns: list[list[Image.Image]] = []
    last = pipeline.tokenizer.schedule.num_scales - 1
    for step in steps:
        h, w = step.size
        print(f"\rscale {step.index + 1}/{last + 1} ({h}x{w})", end="", file=sys.stderr, flush=True)
        if options.show_scales or step.index == last:
            pictures = pipeline.pictures(step)
            columns.append([caption(picture, f"{h}x{w}") for picture in pictures[:SHOWN_IN_STRIP]])
    print(file=sys.stderr)

    written = [write(grid(pictures), options.out)]
    if options.show_scales:
        rows = [picture for row in zip(*columns, strict=True) for picture in row]
        written.append(write(grid(rows, columns=len(columns)), beside(options.out, "scales")))
    if options.separate:
        written += [write(picture, beside(options.out, f"{i:03d}")) for i, picture in enumerate(pictures)]
    print("\n".join(map(str, written)))


def take_turns(labels: tuple[str, ...], num_images: int | None, pipeline: Pipeline) -> tuple[list[int] | None, int]:
    """(class of each picture or None for random ones, how many pictures)."""
    count = num_images if num_images is not None else len(labels) or 20
    if count < 1:
        raise InputError(f"num-images must be at least 1, not {count}")
    if not labels:
        return None, count
    no_class = pipeline.model.config.num_classes
    ids = [no_class if label == "none" else pipeline.class_id(label) for label in labels]
    if count < len(ids):
        raise InputError(f"{len(ids)} labels were given for {count} pictures")
    return [ids[i % len(ids)] for i in range(count)], count


def write(picture: Image.Image, path: Path) -> Path:
    save_picture(picture, path)
    return path


def beside(path: Path, name: str) -> Path:
    """``a/samples.png`` -> ``a/samples-NAME.png``."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")
