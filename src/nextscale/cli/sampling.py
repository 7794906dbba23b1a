"""Flags and steps that all verbs share that draw images."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from nextscale.cli.models import ModelOptions, SamplingDtype
from nextscale.conditioning.classes import NamedLabels
from nextscale.editing.plan import EditPlan
from nextscale.errors import InputError, brief
from nextscale.imaging.images import grid, save_image, to_pil
from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance, read_provenance
from nextscale.runtime.allocator import kept
from nextscale.runtime.progress import say
from nextscale.sampling.sampler import ScaleStep

FREE = ("like", "out", "separate", "show", "show_scales", "model", "device", "image", "mask")
"""What may be said beside ``--like``: where things are, and what is written."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(ModelOptions):
    """How tokens are drawn, and what is written."""

    dtype: SamplingDtype = "auto"  # type: ignore[override]
    """Precision of matrix products and convolutions; auto is bfloat16 for large models where that is fast; int8 is
    faster and less exact, on some CPUs, with what is fast beside it, or what its name says."""
    cfg: float = 4.0
    """Guidance: 0 is none, 1.5 is for metrics, 4 for looks."""
    top_k: int = 900
    """Draw among the k most probable tokens; 0 is all."""
    top_p: float = 0.95
    """Draw among the most probable tokens that together reach p; 0 is all."""
    more_smooth: bool = False
    """Mix codes by Gumbel-softmax: smoother images, not for metrics."""
    seeds: tuple[int, ...] = ()
    """A seed for each image, which is then the same in any number; --seed is one for all, as in the official code."""
    separate: bool = False
    """Also write every image alone, OUT-000.png ..."""
    like: Path | None = None
    """PNG that sample or edit has written: do again what made it. Of the other flags, those stay free that say where
    the model, the image or the mask is, on which device, and what to write."""

    def sampling(self) -> dict[str, Any]:
        """Keyword arguments for the pipeline."""
        if self.seeds and self.seed:
            raise InputError(f"expected seed or seeds, got both: {self.seed} and {' '.join(map(str, self.seeds))}")
        return {
            "cfg": self.cfg,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "more_smooth": self.more_smooth,
            "seed": self.seeds or self.seed,
        }

    def provenance(
        self, pipeline: Pipeline, labels: tuple[str, ...], count: int, edit: EditProvenance | None = None
    ) -> Provenance:
        """How the images will have been made."""
        return Provenance(
            model=self.model,
            weights=pipeline.fingerprint,
            scales=self.scales or "",
            device=pipeline.device.type,
            dtype=pipeline.dtype,
            labels=labels,
            num_images=count,
            seed=self.seeds or self.seed,
            cfg=self.cfg,
            top_k=self.top_k,
            top_p=self.top_p,
            more_smooth=self.more_smooth,
            edit=edit,
        )


OptionsT = TypeVar("OptionsT", bound=SamplingOptions)


def read_like(options: SamplingOptions, verb: str) -> Provenance | None:
    """What the file of ``--like`` says, if there is one.

    Raises:
        InputError: it says nothing, is another verb's, or there are flags that it already answers.
    """
    if options.like is None:
        return None
    made = read_provenance(options.like)
    theirs = "edit" if made.edit else "sample"
    if theirs != verb:
        raise InputError(f"{options.like} was made by another verb: expected nextscale {theirs} --like {options.like}")
    given = [field.name for field in dataclasses.fields(options) if getattr(options, field.name) != field.default]
    if answered := [f"--{name.replace('_', '-')}" for name in given if name not in FREE]:
        raise InputError(f"--like takes {', '.join(answered)} from {options.like}: leave out one or the other")
    return made


def as_made(options: OptionsT, made: Provenance) -> OptionsT:
    """The flags that an image was made with; where the model is, and on which device, may be said anew.

    Raises:
        InputError: it was made with another model than the starter, and no ``--model`` says so: a file of a stranger
            has nothing loaded.
    """
    if "starter" == options.model != made.model:
        model = brief(made.model)
        raise InputError(f"{options.like} was made with model {model}: say --model {model} if you trust it")
    one = not isinstance(made.seed, tuple)
    return replace(
        options,
        scales=made.scales or None,
        device=made.device if options.device == "auto" else options.device,
        dtype=made.dtype,  # type: ignore[arg-type]
        cfg=made.cfg,
        top_k=made.top_k,
        top_p=made.top_p,
        more_smooth=made.more_smooth,
        seed=made.seed if one else 0,
        seeds=() if one else made.seed,
    )


def load(options: SamplingOptions, made: Provenance | None) -> Pipeline:
    """The model, with the weights that an image to repeat was made with."""
    pipeline = Pipeline.from_pretrained(options.model, options.device, options.dtype, options.schedule())
    if made and made.weights != pipeline.fingerprint:
        raise InputError(f"{options.like} was made with other weights than those of {options.model}")
    return pipeline


def draw(
    pipeline: Pipeline,
    labels: NamedLabels,
    sampling: dict[str, Any],
    plan: EditPlan | None = None,
    see: Callable[[ScaleStep], None] | None = None,
) -> list[Image.Image]:
    """The images, while standard error says in what precision, and counts the scales.

    What becomes free meanwhile stays with this process: the same sizes come again at every layer.

    Args:
        plan: whose image the drawn ones are laid over.
        see: is shown every step.
    """
    count = pipeline.tokenizer.schedule.num_scales
    run = pipeline.scales(labels, **sampling)
    say(f"drawing in {pipeline.dtype} on {pipeline.device}")
    with kept(pipeline.device):
        for step in run:
            h, w = step.size
            print(f"\rscale {step.index + 1}/{count} ({h}x{w})", end="", file=sys.stderr, flush=True)
            if see:
                see(step)
        print(file=sys.stderr)
        images = run.result().images
    return to_pil(plan.composite(images) if plan else images)


def write_images(images: Sequence[Image.Image], made: Provenance, options: SamplingOptions, out: Path) -> list[Path]:
    """Write the grid, and each image alone if wanted; PNGs say how they were made."""
    written = [write(grid(images), out, made)]
    if options.separate:
        for i, image in enumerate(images):
            alone = made.of_image(i) if made.index is None else made
            written.append(write(image, beside(out, f"{i:03d}"), alone))
    return written


def write(image: Image.Image, path: Path, made: Provenance | None = None) -> Path:
    save_image(image, path, made.to_png_info() if made else None)
    return path


def beside(path: Path, name: str) -> Path:
    """``a/samples.png`` -> ``a/samples-NAME.png``."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}")
