"""``nextscale edit``."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from PIL import Image
from tyro.constructors import PrimitiveConstructorSpec

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
from nextscale.conditioning.classes import UNCONDITIONAL
from nextscale.editing.plan import EditPlan, check_edits_images, check_label, check_prompt, plan_edit
from nextscale.editing.spec import Box, EditSpec, parse_box
from nextscale.errors import InputError
from nextscale.families.requests import SHAPE
from nextscale.families.sources import media_of
from nextscale.imaging.images import (
    caption,
    grid,
    read_as_stored,
    to_pil,
    to_rgb,
    to_tensor,
)
from nextscale.io.files import beside, brief_path
from nextscale.io.fingerprint import content_fingerprint
from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance, printable
from nextscale.runtime.progress import say

GREY = 0.5
OUT = Path("edited.png")
"""Where edited images are written by default."""
BOX_FLAG: Any = PrimitiveConstructorSpec(
    nargs=1,
    metavar="Y0,X0,Y1,X1",
    instance_from_str=lambda words: words[0],  # parsed by EditFlags, whose errors tyro passes on
    is_instance=lambda box: True,
    str_from_instance=lambda box: [str(box)],
)


@dataclass(frozen=True, kw_only=True)
class EditFlags(EditSpec):
    """Which part of the image is generated, and which part is kept."""

    box: Annotated[Box | None, BOX_FLAG] = None

    def __post_init__(self) -> None:
        if isinstance(self.box, str):
            object.__setattr__(self, "box", parse_box(self.box))
        if self.softness and not self.composite:
            raise InputError("--softness blends the result into the image: it cannot be combined with --no-composite")
        if self.full_size and not self.composite:
            raise InputError("--full-size pastes the result into the image: it cannot be combined with --no-composite")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Regenerate a part of an image, or its finer scales. With a video model, generate a video that begins with an
    image, or that continues a video.

    The image is resized and cropped to the image size of the model. The results have this size, too. --fit pad adds
    borders instead of cropping. --full-size pastes the results back into the original image, which keeps its size.

    Example: nextscale edit dress.jpg --box 0.25,0.25,0.75,0.75 --label dress --variants 4 --out edited.png

    Example for a video model: nextscale edit first.png --model infinitystar-480p --prompt "a fox runs" --seconds 5
    --out fox.mp4
    """

    image: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")] = None
    """Image file to edit, or the video to continue. Not needed with --like."""
    begin: Annotated[Path | None, tyro.conf.arg(name="image")] = None
    """The same as IMAGE."""
    mask: Path | None = None
    """Image file that marks the region: by its transparent pixels or, if it has none, by its white pixels. Any size is
    accepted, but the aspect ratio must be that of the image or of the model's images."""
    edit: EditFlags = field(default_factory=EditFlags)
    """Which part of the image is generated, and which part is kept."""
    label: str = ""
    """Class name or number of the generated part. Without this flag, or with "none" or "unconditional", no class is
    used."""
    prompt: str = ""
    """For text-to-image models: what the generated part shows. Without this flag, no prompt is used."""
    variants: int | None = None
    """Number of results. Default: the number of --seeds, or 1 without --seeds."""
    show: bool = False
    """Also write OUT-show.png with the image, the kept part, and the variants."""
    out: Path | None = None
    """File for the grid of variants. PNG files contain their provenance, which --like reads. Videos are written as by
    "sample". Default: edited.png, or edited.mp4 for videos."""


def run(options: Options) -> None:
    check_outputs(options, options.out or OUT, *(["show"] if options.show else []))
    if options.begin is not None:
        if options.image is not None:
            raise InputError(f"expected one image, got two: {options.image} and {options.begin}")
        options = replace(options, image=options.begin, begin=None)
    like = read_like(options, "edit")
    if like:
        options = as_edited(options, like)
    count = len(options.seeds) or 1 if options.variants is None else options.variants
    if count < 1:
        raise InputError(f"variants must be at least 1, not {count}")
    if options.edit.extend or (not options.edit.has_region(options.mask is not None) and makes_videos(options)):
        from nextscale.cli.extend import extend  # most models generate images

        extend(options, like, count)
        return
    out = options.out or OUT
    options = replace(options, out=out)
    options.edit.check_region(options.mask is not None)
    check_inputs_are_kept(options, 1 if like and like.index is not None else count)
    image, mask, edit = read_inputs(options, like)
    pipeline = load(options, like)
    check_edits_images(pipeline.family)
    wanted = wanted_of(options, edit.spec, pipeline, count)
    plan = plan_edit(edit.spec, pipeline.tokenizer, image, mask, pipeline.schedule_for(image, options.shape))
    label = (options.label,) if options.label else ()
    prompt = (options.prompt,) if pipeline.family.takes == "prompt" else ()
    arguments = {"num_images": count, "seed": options.seed_or_seeds(), "settings": options.changed_settings(pipeline)}
    text = {name: value for name, value in options.request().items() if name not in SHAPE}
    sampling = pipeline.scales(wanted, **arguments, **text, edit=plan.edit, schedule=plan.schedule)
    made = options.provenance(pipeline, label, count, edit, prompt)
    say_shape(options, pipeline, sampling)
    check_image(out, sampling, options.model)
    say_sizes(plan, edit.image)
    generated = finish(sampling, pipeline)
    images, previews = plan.finish(generated), plan.preview(generated)
    if like and like.index is not None:
        images, previews, made = [images[like.index]], [previews[like.index]], like
    written = write_images(images, made, options, out)
    if options.show:
        shown = [caption(plan.placement.trim_image(plan.image), "image"), caption(kept_part(plan, pipeline), "kept")]
        shown += [caption(image, f"variant {i}") for i, image in enumerate(previews)]
        written.append(write(grid(shown), beside(out, "show")))
    print("\n".join(map(str, written)))


def makes_videos(options: Options) -> bool:
    """Return whether a video model is named, without loading it."""
    return media_of(options.model) == "video"


def wanted_of(options: Options, spec: EditSpec, pipeline: Pipeline, count: int) -> Any:
    """Return what the generated part shows: class labels, or prompts.

    Raises:
        InputError: the model takes the other ones, the class is unknown, or mode "class" has no class or prompt.
    """
    if pipeline.family.takes == "prompt":
        if options.label:
            raise InputError(f"{options.model} is a text-to-image model: expected --prompt, not --label")
        check_prompt(spec.mode, options.prompt)
        return [options.prompt] * count
    if options.prompt:
        raise InputError(f"{options.model} is a class-conditional model: expected --label, not --prompt")
    ids = [pipeline.classes.id_of(options.label)] * count if options.label else UNCONDITIONAL
    check_label(spec.mode, ids, len(pipeline.class_names))
    return ids


def say_sizes(plan: EditPlan, image: str) -> None:
    """Print the size of the image, of the part that is edited, and of the results, if they differ."""
    placement, spec = plan.placement, plan.spec
    if placement.image_size == placement.content_size:
        return
    hints = ["--fit pad uses the whole image"] if placement.is_cropped else []
    if not spec.full_size and not spec.is_continuation:
        hints.append("--full-size keeps the size of the image")
    say(f"{brief_path(Path(image))} has {placement.describe()}" + (f" ({', '.join(hints)})" if hints else ""))


def check_inputs_are_kept(options: Options, count: int) -> None:
    """Raise InputError if an output file would overwrite the image or the mask.

    Args:
        count: number of images to write.
    """
    names = [f"{i:03d}" for i in range(count)] if options.separate else []
    names += ["show"] if options.show else []
    out = options.out or OUT
    written = {path.resolve() for path in (out, *(beside(out, name) for name in names))}
    for path, what in ((options.image, "image"), (options.mask, "mask")):
        if path is not None and path.resolve() in written:
            raise InputError(f"{brief_path(path)} is the {what}, which would be overwritten: choose another --out")


def as_edited(options: Options, made: Provenance) -> Options:
    """Return the flags of the command that made an edited image. The paths of image and mask may differ."""
    edit = made.edit
    assert edit is not None
    return replace(
        as_made(options, made),
        image=options.image or Path(edit.image),
        mask=options.mask or (Path(edit.mask) if edit.mask else None),
        edit=EditFlags(**vars(edit.spec)),
        label="".join(made.labels[:1]),
        prompt="".join(made.prompts[:1]),
        variants=made.num_images,
    )


def read_inputs(options: Options, like: Provenance | None) -> tuple[Image.Image, Image.Image | None, EditProvenance]:
    """Return the image, the mask or None, and the provenance of the edit.

    Raises:
        InputError: a file is missing, is not an image, or differs from the input file of ``--like``.
    """
    if options.image is None:
        raise InputError("expected an image to edit, got none")
    stored, image_hash = read_input(options.image, "image", options, like and like.edit)
    mask, mask_hash = read_input(options.mask, "mask", options, like and like.edit) if options.mask else (None, "")
    edit = EditProvenance(
        spec=EditSpec(**{field.name: getattr(options.edit, field.name) for field in fields(EditSpec)}),
        image=printable(str(options.image)),
        image_sha256=image_hash,
        mask=printable(str(options.mask or "")),
        mask_sha256=mask_hash,
    )
    return to_rgb(stored), mask, edit


def read_input(
    path: Path, what: Literal["image", "mask"], options: Options, made: EditProvenance | None
) -> tuple[Image.Image, str]:
    """Return an image in its own mode, and the SHA-256 of its file.

    Args:
        made: the provenance of ``--like``. A file with another hash is not decoded.
    """
    shown = brief_path(path)
    try:
        content = path.read_bytes() if path.is_file() or not made else None
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror}") from error
    if content is None:
        flag = "IMAGE" if what == "image" else "--mask MASK"
        raise InputError(f"{options.like} was made from {shown}, which does not exist: add {flag} with its new path")
    sha256 = content_fingerprint(content)
    if made and sha256 != (made.image_sha256 if what == "image" else made.mask_sha256):
        raise InputError(f"{shown} is not the {what} that {options.like} was made from, or has changed since")
    return read_as_stored(io.BytesIO(content), path), sha256


@torch.no_grad()
def kept_part(plan: EditPlan, pipeline: Pipeline) -> Image.Image:
    """Return the kept pixels of an edit, the others grey; for kept scales, their decoded image. Without borders."""
    if plan.edit.scales_kept:
        canvases = [step.canvas for step in pipeline.tokenizer.pyramid.accumulate(plan.edit.tokens, plan.schedule)]
        images = pipeline.tokenizer.decode_canvas(canvases[plan.edit.scales_kept - 1]).add(1).mul(0.5)
    else:
        images = to_tensor(plan.image).add(1).mul(0.5).masked_fill(plan.hidden, GREY)[None]
    return to_pil(plan.placement.trim(images))[0]
