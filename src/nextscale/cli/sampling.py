"""Flags and steps that the verbs ``sample`` and ``edit`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from torch import Tensor

from nextscale.cli.models import MEMORY_FLAGS, MemoryFlags, ModelOptions, SamplingDtype
from nextscale.cli.settings_flags import SettingsFlags, given
from nextscale.cli.text_flags import PLAIN, TEXT_ENCODER_FLAGS, TextFlags
from nextscale.editing.results import as_images
from nextscale.errors import InputError, brief
from nextscale.families.sources import EMBEDDED, STARTER
from nextscale.imaging.images import FORMATS, check_writable_image, grid, save_image
from nextscale.io.files import beside
from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance, read_provenance
from nextscale.runtime.allocator import kept
from nextscale.runtime.progress import say, say_over
from nextscale.sampling.run import SamplingRun
from nextscale.sampling.sampler import ScaleStep
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.aspect import parse_aspect, parse_size
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape

FREE = (
    "like",
    "out",
    "separate",
    "show",
    "show_scales",
    "model",
    "device",
    "image",
    "begin",
    "mask",
    *TEXT_ENCODER_FLAGS,  # text_dtype only for files that do not state it
    *MEMORY_FLAGS,
)
"""Flags that may be combined with ``--like``: the locations of the inputs, and the output."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(ModelOptions):
    """Sampling and output flags that ``sample`` and ``edit`` share."""

    dtype: SamplingDtype = "auto"
    """Precision of matrix products and convolutions. auto: bfloat16 for large models on devices that compute it fast,
    else float32. int8: 8-bit matrix products at the large scales; everything else in float32 or bfloat16,
    whichever is faster. int8 is faster and less exact than the others, and needs a CPU with AVX512-VNNI. int8-float32
    and int8-bfloat16 are int8 with float32 or bfloat16 for everything else."""
    text: TextFlags = field(default_factory=TextFlags)
    """For text-to-image models."""
    memory: MemoryFlags = field(default_factory=MemoryFlags)
    """Use less memory."""
    shape: ImageShape = ANY_SHAPE
    """The shape of the images, for text-to-image models."""
    settings: SettingsFlags = field(default_factory=SettingsFlags)  # pyright: ignore[reportInvalidTypeForm]
    """How tokens are sampled."""
    seed: int = 0
    """Seed of one random generator for all images, as in the official code. Each image also depends on the number of
    images."""
    seeds: tuple[int, ...] = ()
    """One seed per image, instead of --seed. Each image depends on its seed only."""
    separate: bool = False
    """Also write each image to its own file, OUT-000.png ..."""
    like: Path | None = None
    """PNG or video file written by "sample" or "edit". Repeats the command with the settings stored in the file. Other
    flags can be combined with it only if they name the model, the device, the input files or the output."""

    def changed_settings(self, pipeline: Pipeline) -> SamplingSettings:
        """Return the model's default settings, changed by the flags that are given; with ``--like``, those of the
        image."""
        if not isinstance(self.settings, SettingsFlags):
            return self.settings
        return pipeline.settings.changed(**given(self.settings))

    def request(self) -> dict[str, Any]:
        """Return the flags that describe the request, as arguments of `Pipeline.scales`."""
        return {name: value for name, value in vars(self.text.options()).items() if value} | self.shape.given

    def seed_or_seeds(self) -> int | tuple[int, ...]:
        """Return the single seed, or one seed per image."""
        if self.seeds and self.seed:
            raise InputError(f"expected seed or seeds, got both: {self.seed} and {' '.join(map(str, self.seeds))}")
        return self.seeds or self.seed

    def load(self, dtype: str = "auto", **options: Any) -> Pipeline:
        pipeline = super().load(dtype, **vars(self.memory), **options)
        self.text.use(pipeline, self.model)
        return pipeline

    def provenance(
        self,
        pipeline: Pipeline,
        labels: tuple[str, ...],
        count: int,
        edit: EditProvenance | None = None,
        prompts: tuple[str, ...] = (),
        frames: int = 1,
    ) -> Provenance:
        """Return the provenance of the images of this call."""
        content = pipeline.requests.encoder_of(prompts, vars(self.text.options()))
        return Provenance(
            model=self.model,
            weights=pipeline.fingerprint,
            scales=self.scales or "",
            device=pipeline.device.type,
            dtype=pipeline.dtype,
            labels=labels,
            num_images=count,
            seed=self.seed_or_seeds(),
            settings=self.changed_settings(pipeline),
            edit=edit,
            prompts=prompts,
            text_encoder=self.text.text_encoder,
            text_content=content,
            text_dtype=self.text.text_dtype if content else PLAIN.text_dtype,
            text=self.text.options(),
            shape=self.shape,
            frames=frames,
        )


VIDEO_SUFFIXES = (".mp4", ".webm")
"""Suffixes of files that hold no images."""
ROUNDED = 0.001
"""Aspects differ from those of templates by less, if only their digits are cut."""

OptionsT = TypeVar("OptionsT", bound=SamplingOptions)


def read_like(options: SamplingOptions, verb: str) -> Provenance | None:
    """Read the provenance of the ``--like`` file, if the flag is given.

    Raises:
        InputError: the file has no provenance or is of another verb, or flags contradict the file.
    """
    if options.like is None:
        return None
    made = read_provenance(options.like)
    theirs = "edit" if made.edit else "sample"
    if theirs != verb:
        raise InputError(
            f"{options.like} was made with nextscale {theirs}: use nextscale {theirs} --like {options.like}"
        )
    answered = [flag_of(name) for name in changed_fields(options) if name not in FREE]
    if made.text_content and options.text.text_dtype not in (PLAIN.text_dtype, made.text_dtype):
        answered.append("--text-dtype")
    if answered:
        raise InputError(f"{', '.join(answered)} cannot be combined with --like, which takes them from {options.like}")
    return made


def flag_of(name: str) -> str:
    """Return how a command states a field: as a flag, or PROMPT."""
    return "PROMPT" if name == "prompts" else f"--{name.replace('_', '-')}"


def changed_fields(options: Any, defaults: Any = None) -> list[str]:
    """Return the names of the fields that differ from their defaults, those of nested dataclasses included."""
    changed: list[str] = []
    for each in fields(options):
        value, default = getattr(options, each.name), getattr(defaults, each.name, each.default)
        if is_dataclass(value):
            changed += changed_fields(value, None if default is MISSING else default)
        elif value != default:
            changed.append(each.name)
    return changed


def as_made(options: OptionsT, made: Provenance) -> OptionsT:
    """Return the flags of the command that made an image. The model's location and the device may differ.

    Raises:
        InputError: the image was made with a model that is not embedded, and ``--model`` is not given. For security,
            an image file cannot choose the model to load.
    """
    if options.model == STARTER and made.model not in EMBEDDED:
        model = brief(made.model)
        raise InputError(f"{options.like} was made with model {model}: add --model {model} if you trust it")
    one = not isinstance(made.seed, tuple)
    text = vars(made.text) | ({"text_dtype": made.text_dtype} if made.text_content else {})
    return replace(
        options,
        scales=made.scales or None,
        device=made.device if options.device == "auto" else options.device,
        dtype=made.dtype,  # type: ignore[arg-type]
        settings=made.settings,
        text=replace(options.text, **text),
        shape=made.shape,
        seed=made.seed if one else 0,
        seeds=() if one else made.seed,
    )


def load(options: SamplingOptions, made: Provenance | None) -> Pipeline:
    """Load the model. With ``--like``, check that the image was made with the same weights and text encoder."""
    pipeline = options.load(options.dtype)
    if made and made.weights != pipeline.fingerprint:
        raise InputError(f"{options.like} was made with other weights than those of {options.model}")
    if made and made.text_content:
        content = pipeline.requests.encoder_of(made.prompts, vars(made.text))
        if content != made.text_content:
            raise InputError(
                f"{options.like} was made with another text encoder ({brief(made.text_content)}) than "
                f"{pipeline.text_encoder} ({content}){hint_of(options, made)}"
            )
    return pipeline


def hint_of(options: SamplingOptions, made: Provenance) -> str:
    """Return which flag names the text encoder of an image. For security, an image file cannot choose it."""
    if not made.text_encoder or made.text_encoder == options.text.text_encoder:
        return ""
    return f": add --text-encoder {made.text_encoder} if you trust it"


def say_shape(options: SamplingOptions, pipeline: Pipeline, run: SamplingRun) -> None:
    """Print the size of the images or videos if another size or aspect was asked for."""
    height, width = pipeline.tokenizer.config.image_size_of(run.schedule)
    what = "videos" if run.schedule.frames > 1 else "images"
    size, aspect = options.shape.size, options.shape.aspect
    if size and parse_size(size) != (height, width):
        say(f"{what} have {width} x {height} pixels, the nearest size to {size}")
    if aspect and abs((run.schedule.template or 0) - parse_aspect(aspect)) > ROUNDED:
        say(f"{what} have {width} x {height} pixels, the nearest aspect to {aspect}")


def finish(run: SamplingRun, pipeline: Pipeline, on_scale: Callable[[ScaleStep], None] = lambda step: None) -> Tensor:
    """Run the sampler to the end and return its images, (B, 3, H, W) in [0, 1]. Progress goes to standard error.

    Args:
        on_scale: called after each scale.
    """
    say(f"sampling in {pipeline.dtype} on {pipeline.device}")
    numbers = pipeline.tokenizer.config.full_size_numbers(run.schedule)
    with kept(pipeline.device, numbers * pipeline.precision.dtype.itemsize):  # every layer allocates the same sizes
        for step in run:
            say_step(step, run)
            on_scale(step)
        return as_images(run.result().images)


def say_step(step: ScaleStep, run: SamplingRun) -> None:
    """Print the progress of sampling: scales, or visits if scales are visited several times."""
    schedule, (t, h, w) = run.schedule, step.visit.size
    count = len(schedule.visits)
    what = "scale" if count == schedule.num_scales else "visit"
    say_over(f"{what} {step.index + 1}/{count} ({f'{t}x' if t > 1 else ''}{h}x{w})", is_last=step.index == count - 1)


def check_outputs(options: SamplingOptions, out: Path, *names: str) -> None:
    """Raise InputError if a file of the command cannot be written.

    Args:
        names: names of the additional files, such as ``scales`` for OUT-scales.png.
    """
    check = check_writable_image
    if out.suffix.lower() in VIDEO_SUFFIXES:
        from nextscale.io.video_writer import check_writable_video as check  # most files are images
    check(out)
    for name in (*names, *(["000"] if options.separate else [])):
        check(beside(out, name))


def check_image(out: Path, run: SamplingRun, model: str) -> None:
    """Raise InputError if images would be written to a video file, or the frames of a video as a list of scales."""
    if run.schedule.frames == 1 and out.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(
            f"{brief(model)} generates images: expected one of the extensions {', '.join(FORMATS)}, not {out.suffix}"
        )


def write_images(images: Sequence[Image.Image], made: Provenance, options: SamplingOptions, out: Path) -> list[Path]:
    """Write the grid and, with ``--separate``, each image. PNGs contain their provenance."""
    written = [write(grid(images), out, made)]
    if options.separate:
        for i, image in enumerate(images):
            alone = made.of_image(i) if made.index is None else made
            written.append(write(image, beside(out, f"{i:03d}"), alone))
    return written


def write(image: Image.Image, path: Path, made: Provenance | None = None) -> Path:
    save_image(image, path, made.to_png_info() if made else None)
    return path
