"""Provenance: how images and videos were generated, as metadata of files, as a shell command and as Python code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nextscale.conditioning.prompts import PLAIN, TextOptions, check_text
from nextscale.editing.spec import EditSpec
from nextscale.errors import InputError, brief
from nextscale.io.config import LATER, as_config, as_record
from nextscale.io.exif import with_comment
from nextscale.io.json_text import parse_json
from nextscale.io.metadata import read_metadata
from nextscale.io.renamed import with_current_names
from nextscale.sampling.settings import FOR_IMAGES, SamplingSettings, take_settings
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape

KEY = "nextscale"
"""Name of the PNG text chunk, and of the key in the comments of other files."""
LARGEST = 2**20
"""Most characters of metadata."""
MOST = 10_000
"""Most images of one call."""
LONGEST_WORD, LONGEST_PATH = 200, 4096
"""Most characters of a label, a hash and the like; most characters of a path."""


@dataclass(frozen=True, kw_only=True)
class EditProvenance:
    """How an image was edited: the edit, and the files that went into it."""

    spec: EditSpec
    image: str
    """Path of the image file, as it was given."""
    image_sha256: str
    mask: str = ""
    """Path of the mask file, as it was given; empty without a mask."""
    mask_sha256: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", as_config(EditSpec, self.spec))
        check_texts(self.image, self.mask, most=LONGEST_PATH)
        check_texts(self.image_sha256, self.mask_sha256)
        self.spec.check_region(bool(self.mask))

    def flags(self) -> list[str]:
        """Return the arguments of ``nextscale edit``, the image first."""
        spec = self.spec
        image = f"./{self.image}" if self.image.startswith("-") else self.image  # or it would be read as a flag
        size = [*(["--fit", spec.fit] if spec.fit != "crop" else []), *(["--full-size"] if spec.full_size else [])]
        if spec.extend:
            return [image, "--extend", spec.extend]
        if spec.upscale:
            return [image, "--upscale", *size]
        if spec.scales_kept is not None:
            return [image, *flag("scales-kept", spec.scales_kept), *size]
        region = flag("box", ",".join(map(str, spec.box))) if spec.box else flag("mask", self.mask)
        leaks = [] if spec.leak_free else ["--no-leak-free"]
        composite = flag("softness", spec.softness) if spec.composite else ["--no-composite"]
        return [image, *region, "--mode", spec.mode, *leaks, *composite, *size]

    def call(self) -> str:
        """Return the Python call, without its sampling arguments and closing parenthesis."""
        spec = self.spec
        if spec.extend:
            return f"pipe({spec.extend}={self.image!r}, "
        fit = f"fit={spec.fit!r}, " if spec.fit != "crop" else ""
        if spec.is_continuation:
            return f"pipe.continue_from(image, scales={spec.scales_kept}, {fit}"
        region = f"box={spec.box}" if spec.box else "mask"
        how = f"leak_free={spec.leak_free}, softness={spec.softness}, composite={spec.composite}"
        size = f"{fit}full_size=True, " if spec.full_size else fit
        return f"pipe.edit(image, {region}, mode={spec.mode!r}, {how}, {size}"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How one call of ``nextscale sample`` or ``nextscale edit``, or one image of it, was made.

    Raises:
        InputError: a field of the wrong type or out of range.
    """

    model: str
    weights: str
    """`Pipeline.fingerprint`."""
    scales: str = ""
    """Value of ``--scales``, such as 1,2,3,4; empty if the model's files contain the schedule."""
    device: str = "cpu"
    dtype: str = "float32"
    labels: tuple[str, ...] = ()
    """Names or numbers of classes, repeated over the images. Empty: random classes for ``sample``, no class for
    ``edit``."""
    num_images: int = 1
    seed: int | tuple[int, ...] = 0
    """One for the whole call, or one per image."""
    settings: SamplingSettings = FOR_IMAGES
    index: int | None = None
    """Which image of the call; None means all."""
    edit: EditProvenance | None = None
    prompts: tuple[str, ...] = field(default=(), metadata=LATER)
    """Prompts, for text-to-image models, repeated over the images."""
    text: TextOptions = field(default=PLAIN, metadata=LATER)
    """For text-to-image models."""
    text_encoder: str = field(default="", metadata=LATER)
    """Folder or name of the text encoder, if it was not the model's own."""
    text_content: str = field(default="", metadata=LATER)
    """Identifies the text encoder, if one was used that is not a part of the model; see
    `nextscale.conditioning.feature_cache.content_of`."""
    text_dtype: str = field(default="auto", metadata=LATER)
    """Precision of the text encoder, as the request states it."""
    shape: ImageShape = field(default=ANY_SHAPE, metadata=LATER)
    """The shape of the images as the request states it."""
    frames: int = field(default=1, metadata=LATER)
    """Number of frames of each video; 1 for images."""

    def __post_init__(self) -> None:
        for name in ("labels", "prompts", "seed"):
            if isinstance(value := getattr(self, name), list):  # JSON
                object.__setattr__(self, name, tuple(value))
        if self.edit is not None:
            object.__setattr__(self, "edit", as_config(EditProvenance, self.edit))
        object.__setattr__(self, "settings", as_config(SamplingSettings, self.settings))
        object.__setattr__(self, "text", as_config(TextOptions, self.text))
        object.__setattr__(self, "shape", as_config(ImageShape, self.shape))
        if type(self.num_images) is not int or not 1 <= self.num_images <= MOST:
            raise InputError(f"num_images must be an integer from 1 to {MOST}, not {brief(self.num_images)}")
        for name in ("labels", "prompts"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or len(texts) > self.num_images:
                raise InputError(f"{name} must be at most one per image, {self.num_images} in all, not {brief(texts)}")
        for prompt in self.prompts:
            check_text(prompt, "a prompt")
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,) * self.num_images
        if len(seeds) != self.num_images:
            raise InputError(f"expected one seed for each of the {self.num_images} images, got {len(seeds)}")
        if not all(type(seed) is int for seed in seeds):
            raise InputError(f"seed must be one or more integers, not {brief(self.seed)}")
        if type(self.frames) is not int or not 1 <= self.frames <= MOST:
            raise InputError(f"frames must be an integer from 1 to {MOST}, not {brief(self.frames)}")
        if self.index is not None and (type(self.index) is not int or not 0 <= self.index < self.num_images):
            raise InputError(f"index must be one of the {self.num_images} images, not {brief(self.index)}")
        check_texts(self.model, self.text_encoder, self.text_content, most=LONGEST_PATH)
        check_texts(self.weights, self.scales, self.device, self.dtype, self.text_dtype, *self.labels)

    def of_image(self, index: int) -> Provenance:
        """Return how one image of the call was made.

        An image with its own seed can be repeated alone. An image that shares a seed with others is repeated together
        with them. So is one of ``more_smooth``, because its rounding depends on the batch.
        """
        if not isinstance(self.seed, tuple) or self.settings.more_smooth:
            return replace(self, index=index)
        labels = self.labels and (self.labels[index % len(self.labels)],)
        prompts = self.prompts and (self.prompts[index % len(self.prompts)],)
        return replace(self, labels=labels, prompts=prompts, num_images=1, seed=(self.seed[index],))

    def command(self, out: str = "") -> str:
        """Return the shell command that repeats the images. With ``index``, it writes all images of the call.

        Args:
            out: the file to write; image.png, edited.png or video.mp4 by default.
        """
        words = ["nextscale", *(["edit", *self.edit.flags()] if self.edit else ["sample", *map(word, self.prompts)])]
        words += flag("model", self.model)
        words += flag("scales", self.scales) if self.scales else []
        words += flag("text-encoder", self.text_encoder) if self.text_encoder else []
        words += flag("text-dtype", self.text_dtype) if self.text_dtype != "auto" else []
        if self.labels:
            words += flag("label" if self.edit else "labels", *self.labels)
        words += flag("prompt", *self.prompts[:1]) if self.edit and self.prompts else []
        words += flag("variants" if self.edit else "num-images", self.num_images)
        for name, value in self._text_options().items():
            words += flag(name, *([] if value is True else [value]))
        for name, value in self._shown_settings().items():
            words += flag(name, *([] if value is True else value if isinstance(value, list | tuple) else [value]))
        words += flag("seeds", *self.seed) if isinstance(self.seed, tuple) else flag("seed", self.seed)
        words += [*flag("device", self.device), *flag("dtype", self.dtype)]
        words += ["--separate"] if self.index is not None else []
        return shlex.join([*words, *flag("out", out or f"{self._stem()}{self._suffix}")])

    def python(self, stem: str = "") -> str:
        """Return the Python code that repeats the images.

        Args:
            stem: the code writes STEM.png, or STEM-000.png ... for several images; "image" or "edited" by default. For
                videos it writes STEM.mp4; "video" by default.
        """
        one, stem = self.index if self.num_images > 1 else 0, stem or self._stem()
        schedule = f", schedule=ns.ScaleSchedule.parse({self.scales!r})" if self.scales else ""
        encoder = f", text_encoder={self.text_encoder!r}" if self.text_encoder else ""
        t5 = "from nextscale.conditioning.t5 import T5TextEncoder" if self.text_dtype != "auto" else ""
        how = f"dtype={self.text_dtype!r}, max_tokens=min(512, len(pipe.model.unconditional_text))"
        call = self.edit.call() if self.edit else "pipe("
        what = "video" if self.frames > 1 else "image"
        save = f"result.{what}s[{one}].save('{stem}{self._suffix}')"
        if one is None:
            save = f"for i, {what} in enumerate(result.{what}s): {what}.save(f'{stem}-{{i:03d}}{self._suffix}')"
        opens = self.edit is not None and not self.edit.spec.extend
        lines = [
            *(["from PIL import Image", ""] if opens else []),
            "import nextscale as ns",
            *([t5] if t5 else []),
            "",
            f"pipe = ns.Pipeline.from_pretrained({self.model!r}, {self.device!r}, {self.dtype!r}{schedule}{encoder})",
            *([f"pipe.set_text_encoder(T5TextEncoder(pipe.text_encoder, {how}))"] if t5 else []),
            *([f"image = Image.open({self.edit.image!r})"] if self.edit and opens else []),
            *([f"mask = Image.open({self.edit.mask!r})"] if self.edit and self.edit.mask else []),
            f"result = {call}{self._arguments()})",
            save,
        ]
        return "\n".join(lines) + "\n"

    def _stem(self) -> str:
        """Return a name for the files to write that overwrites no file to read."""
        read = [Path(path).name for path in (self.edit.image, self.edit.mask)] if self.edit else []
        stem = "video" if self.frames > 1 else "edited" if self.edit else "image"
        while any(name.startswith(stem) for name in read):
            stem = f"new-{stem}"
        return stem

    @property
    def _suffix(self) -> str:
        return ".mp4" if self.frames > 1 else ".png"

    def _text_options(self) -> dict[str, Any]:
        """Return the options of text-to-image models that have an effect."""
        return {name: value for name, value in vars(self.text).items() if value} | self.shape.given

    def _shown_settings(self) -> dict[str, Any]:
        """Return the settings to write out: all, but temperature and ``more_smooth`` only if they have an effect.
        Text-to-image models have other default temperatures than 1."""
        shown = as_record(self.settings)
        if self.frames > 1 or self.shape.seconds is not None:  # video models have other defaults
            shown["guidance"] = self.settings.guidance
            if not isinstance(self.settings.temperature, tuple):
                shown["clip_temperature"] = self.settings.clip_temperature or self.settings.temperature
        if self.settings.temperature == 1 and not self.prompts:
            del shown["temperature"]
        if not self.settings.more_smooth:
            del shown["more_smooth"]
        return shown

    def _arguments(self) -> str:
        """Return the sampling arguments of the Python call."""
        name, named = ("prompt", self.prompts) if self.prompts else ("labels", self.labels)
        turns, rest = divmod(self.num_images, len(named) or 1)
        if not named:
            labels = f"num_images={self.num_images}"
        elif rest:
            labels = f"{name}={[named[i % len(named)] for i in range(self.num_images)]}"
        else:
            labels = f"{name}={list(named)}" + (f" * {turns}" if turns > 1 else "")
        labels += "".join(f", {option}={value!r}" for option, value in self._text_options().items())
        seed = list(self.seed) if isinstance(self.seed, tuple) else self.seed
        settings = "".join(f"{name}={value!r}, " for name, value in self._shown_settings().items())
        return f"{labels}, {settings}seed={seed}"

    def to_png_info(self) -> PngInfo:
        """Return the metadata for Pillow's ``image.save(..., pnginfo=...)``."""
        info = PngInfo()
        info.add_text(KEY, json.dumps(as_record(self)))
        return info

    def to_exif(self) -> Image.Exif:
        """Return the metadata of JPEG and WebP files for Pillow's ``image.save(..., exif=...)``: a user comment."""
        return with_comment(self.to_comment())

    def to_comment(self) -> str:
        """Return the metadata of videos, see `nextscale.io.video_writer.VideoWriter`: a JSON object with one key."""
        return json.dumps({KEY: as_record(self)})


def flag(name: str, *values: object) -> list[str]:
    """Return a flag and its values as words of a command.

    A value that begins with "-" would be read as a flag. A single one is joined to the flag by "=". Among several
    texts, it is preceded by a space; see `nextscale.cli.sample`.
    """
    texts = [str(value) for value in values]
    name = f"--{name.replace('_', '-')}"
    if len(texts) == 1 and texts[0].startswith("-"):
        return [f"{name}={texts[0]}"]
    numbers = all(isinstance(value, int | float) for value in values)
    return [name, *(f" {text}" if text.startswith("-") and not numbers else text for text in texts)]


def word(text: str) -> str:
    """Return a text as a word of a command that is not read as a flag."""
    return f" {text}" if text.startswith("-") else text


def printable(text: str) -> str:
    """Return a text with "?" for every character that cannot be printed, as in some file names."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def read_provenance(path: str | Path) -> Provenance:
    """Read how the images of a file were made, from the metadata of this and of older versions.

    Raises:
        InputError: no such file, a file without our metadata, or invalid metadata.
    """
    text = read_metadata(path, KEY)
    if not isinstance(text, str):
        expected = "expected a PNG or a video written by nextscale sample or edit, or an image from its server"
        raise InputError(f"{path} has no provenance: {expected}")
    try:
        if len(text) > LARGEST:
            raise InputError(f"too much metadata, {len(text):,} characters")
        return as_config(Provenance, upgrade(parse_json(text)))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} has invalid provenance: {str(error)[:300] or type(error).__name__}") from error


def upgrade(record: Any) -> Any:
    """Convert metadata of older versions, whose settings and edit were flat, to the fields of `Provenance`."""
    record = with_current_names(record)
    if isinstance(record, Mapping) and "settings" not in record:
        settings, record = take_settings(record)
        record["settings"] = asdict(FOR_IMAGES) | settings
        if isinstance(edit := record.get("edit"), Mapping) and "spec" not in edit:
            names = {field.name for field in fields(EditSpec)}
            spec = {name: value for name, value in edit.items() if name in names}
            record["edit"] = {"spec": spec, **{name: value for name, value in edit.items() if name not in names}}
    return record


def check_texts(*values: Any, most: int = LONGEST_WORD) -> None:
    """Raise InputError unless all values are printable texts of at most ``most`` characters."""
    for value in values:
        if not isinstance(value, str) or not value.isprintable():
            raise InputError(f"expected printable text on one line, not {brief(value)}")
        if len(value) > most:
            raise InputError(f"expected a text of at most {most:,} characters, not {len(value):,}: {brief(value)}")
