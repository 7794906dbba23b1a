"""Requests and responses of the HTTP API: OpenAI's image API with additional settings of next-scale models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model, model_validator

from nextscale.conditioning.prompts import PLAIN, TextOptions, check_text
from nextscale.editing.spec import EditSpec, parse_box
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.sampling.settings import FOR_IMAGES, SETTINGS, SamplingSettings, default_of
from nextscale.scales.aspect import parse_size
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape, templates_of
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.dataclass_fields import WHOLE, dataclass_of, pydantic_fields
from nextscale.web.engine import Engine
from nextscale.web.errors import FieldError, naming
from nextscale.web.image_format import FormatName, ImageFormat
from nextscale.web.tickets import LARGEST_SEED, Job

LONGEST_NAME = 200
Unused = Annotated[
    str | None,
    Field(max_length=LONGEST_NAME, description="Accepted for compatibility with OpenAI's clients, without effect."),
]


def allow_null(schema: dict[str, Any]) -> None:
    """Let optional fields be null in a JSON schema."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            outside = {key: field.pop(key) for key in ("default", "description", "title") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **outside}


SIZE = r"^(auto|[0-9]{1,9}x[0-9]{1,9})$"


def check_size(text: str) -> str:
    """Return the text of a size, or raise InputError, which pydantic reports."""
    if text != "auto":
        parse_size(text)
    return text


OF_VIDEOS = ("guidance", "clip_temperature")
"""Settings of video models, which requests for images do not have."""
FOR_TEXT = {**pydantic_fields(PLAIN), **pydantic_fields(ANY_SHAPE, skip=["size", "seconds"])}
"""Fields for text-to-image models."""
SettingsFields: type[BaseModel] = create_model(
    "SettingsFields", **pydantic_fields(FOR_IMAGES, skip=OF_VIDEOS, unset=default_of), **FOR_TEXT
)
SpecFields: type[BaseModel] = create_model("SpecFields", **pydantic_fields(EditSpec(), skip=["box", "extend"]))


class SamplingFields(SettingsFields):
    """Fields that generation and edit requests share."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=allow_null)

    model: Annotated[str | None, Field(max_length=LONGEST_NAME)] = None
    """Name of the served model. Optional, because a server has one model."""
    n: Annotated[int, Field(ge=1), WHOLE] = 1
    """Number of images."""
    size: Annotated[str, AfterValidator(check_size), Field(json_schema_extra={"pattern": SIZE})] = "auto"
    """``auto``, or a size as WIDTHxHEIGHT. Text-to-image models generate the nearest size of their templates. Others
    have one size."""
    response_format: Literal["b64_json", "url"] = "b64_json"
    """Only ``b64_json`` is supported, because the server stores no files."""
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED), WHOLE] = None
    """Seed of the first image; image i uses seed + i. Default: a random seed, which the response contains."""
    stream: bool = False
    """Send the images after each scale, as server-sent events."""
    partial_images: Annotated[int | None, Field(ge=0, le=100), WHOLE] = None
    """Number of partial images to send with ``stream``, after evenly spaced scales before the last. Default: all."""
    output_format: FormatName = "png"
    """Format of the images. Only PNG is lossless."""
    output_compression: Annotated[int | None, Field(ge=0, le=100), WHOLE] = None
    """Quality of JPEG and WebP images, as OpenAI calls it: 0 (smallest file) to 100 (best image). Default: 100."""
    background: Literal["auto", "opaque"] = "auto"
    """Images are opaque. Accepted for compatibility with OpenAI's clients, without effect."""
    complexity: Unused = None
    input_fidelity: Unused = None
    moderation: Unused = None
    quality: Unused = None
    safety_identifier: Unused = None
    style: Unused = None
    user: Unused = None

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, fields: Any) -> Any:
        """Treat null like a missing field."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None or name not in cls.model_fields}

    def settings(self, default: SamplingSettings) -> SamplingSettings:
        """Return the settings of the request, with defaults for those that it does not set."""
        given = {name: value for name in SETTINGS if (value := getattr(self, name, None)) is not None}
        return default.changed(**given)

    def shape(self) -> ImageShape:
        """Return the shape of the images."""
        return dataclass_of(ImageShape, self, size="" if self.size == "auto" else self.size, seconds=None)

    def job(self, wanted: int | str, engine: Engine) -> Job:
        """Return the job.

        Args:
            wanted: the class or the prompt of the images.
        """
        return Job(
            (wanted,) * self.n,
            self.seeds(engine.new_seed),
            self.settings(engine.pipeline.settings),
            watch=self.stream,
            text=dataclass_of(TextOptions, self),
            shape=self.shape(),
        )

    def image_format(self) -> ImageFormat:
        """Return the file format of the images.

        Raises:
            FieldError: ``output_compression`` is set for PNG.
        """
        if self.output_format == "png" and self.output_compression not in (None, 100):
            expected = f"expected output_format jpeg or webp, or a compression of 100, not {self.output_compression}"
            raise FieldError("output_compression", f"PNG is lossless: {expected}")
        return ImageFormat(self.output_format, 100 if self.output_compression is None else self.output_compression)

    def seeds(self, new_seed: Callable[[], int]) -> tuple[int, ...]:
        """Return one seed per image. If the request has no seed, ``new_seed`` returns the first."""
        first = new_seed() if self.seed is None else self.seed
        return tuple(first + i for i in range(self.n))

    def check(self, engine: Engine) -> None:
        """Raise FieldError for values that the server cannot honour: another model than the served one, a size or an
        option that the model does not have, too many images, format "url", and the compression of PNG."""
        if self.model not in (None, engine.name):
            raise FieldError("model", f"no model {self.model!r} is served here: expected {engine.name!r}, or none")
        with naming("n"):
            engine.check_count(self.n)
        options = {
            name: value for name in (*FOR_TEXT, "size") if (value := getattr(self, name)) not in ("", False, "auto")
        }
        for name, value in options.items():
            with naming(name):
                engine.pipeline.requests.schedule_of({name: value})
        with naming("size"):  # which excludes others
            engine.pipeline.requests.schedule_of(options)
        if self.response_format == "url":
            raise FieldError("response_format", "the server stores no files that a URL could name: expected 'b64_json'")
        self.image_format()


class GenerationRequest(SamplingFields):
    """``POST /v1/images/generations``."""

    prompt: str
    """For text-to-image models: a description of the images. For class-conditional models: name or number of a class;
    an empty text means no class, and so do ``none`` and ``unconditional``, unless a class has that name."""


class EditRequest(SamplingFields, SpecFields):
    """``POST /v1/images/edits``, a form with files."""

    model_config = ConfigDict(extra="forbid", strict=False, json_schema_extra=None)  # form fields are text

    image: UploadFile
    """PNG, JPEG, WebP, GIF (first frame) or BMP of any size. It is resized to the size of the model, and centre-cropped
    unless ``fit`` is pad. OpenAI's clients call the field ``image[]`` if they are given a list; it must contain one
    image."""
    mask: Annotated[UploadFile | None, WithJsonSchema({"type": "string", "format": "binary"})] = None
    """Image file. Its transparent pixels mark the region to generate; without transparent pixels, its white pixels mark
    the region. Without mask, box, scales_kept and upscale, the transparent pixels of ``image`` mark the region."""
    box: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    """Region as a box y0,x0,y1,x1 instead of a mask, in fractions of the image's height and width. It is rounded to
    whole tokens."""
    prompt: str = ""
    """What the generated part shows, as for generations. An empty text means no prompt or no class."""

    @model_validator(mode="before")
    @classmethod
    def name_image(cls, fields: Any) -> Any:
        """Accept ``image[]``, the name that OpenAI's clients use for a list of images."""
        if not isinstance(fields, dict):
            return fields
        lists = {name: value[0] for name, value in fields.items() if isinstance(value, list)}  # refused later
        return {one_name(name): value for name, value in (fields | lists).items()}

    def spec(self) -> EditSpec:
        """Return the edit.

        Raises:
            FieldError: ``box`` is not four numbers.
            InputError: fields exclude each other.
        """
        try:
            box = parse_box(self.box) if self.box else None
        except InputError as error:
            raise FieldError("box", error) from error
        return dataclass_of(EditSpec, self, box=box, extend="")


def one_name(name: str) -> str:
    """Return the name of a form field: ``image`` for ``image[]``, else the same."""
    return "image" if name == "image[]" else name


class ImageData(BaseModel):
    """An image."""

    b64_json: str
    """The file in base64."""
    seed: int
    """Seed that generates the same image again, with the same settings."""
    label: str
    """For text-to-image models: the prompt. For class-conditional models: the name of the class; ``none`` for no class,
    or ``unconditional`` if a class is called "none"."""


class ImagesResponse(BaseModel):
    """Generated images."""

    created: int
    """Unix time in seconds."""
    model: str
    size: str
    output_format: FormatName = "png"
    data: list[ImageData]
    notes: list[str] = []
    """Sentences about what a text-to-image model could not follow in the prompt or the negative prompt: that it was
    cut, or words that the model does not know."""


class StreamedImageData(BaseModel):
    """A server-sent event with an image after a scale (type ``image_generation.partial_image``), or a finished image
    (``image_generation.completed``). The types of edits begin with ``image_edit`` instead."""

    type: str
    b64_json: str
    created_at: int
    index: int
    """Position of the image in the request."""
    partial_image_index: int
    """Index of the scale."""
    scale: str
    """Size of the scale in tokens, HEIGHTxWIDTH."""
    size: str
    seed: int
    label: str
    output_format: FormatName = "png"
    notes: list[str] = []
    """As in a response without ``stream``."""
    background: Literal["opaque"] = "opaque"


class Model(BaseModel):
    """The served model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["nextscale"] = "nextscale"
    takes: Literal["prompt", "class"]
    """What ``prompt`` is in a request: a text, or a class."""
    size: str
    """Default size of the images in pixels, WIDTHxHEIGHT."""
    sizes: list[str]
    """All sizes of images: those of the templates at the default budget, or one."""
    classes: list[str]
    """Names of the classes, for class-conditional models."""
    scales: list[str]
    """Sizes of the scales in tokens, HEIGHTxWIDTH, for the default size."""


class ModelList(BaseModel):
    """The served models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """State of the server."""

    status: Literal["ready", "shutting down"]
    waiting: int
    """Number of images in the queue."""


def size_of(pipeline: Pipeline, schedule: ScaleSchedule | None = None) -> str:
    """Return the size of images as WIDTHxHEIGHT.

    Args:
        schedule: None means the model's own.
    """
    h, w = pipeline.tokenizer.config.image_size_of(pipeline.tokenizer.schedule_or_own(schedule))
    return f"{w}x{h}"


def wanted_of(prompt: str, engine: Engine, may_be_empty: bool = False) -> int | str:
    """Return what a prompt asks for: the text itself, or the label of a class.

    Raises:
        FieldError: the text is empty, too long or not valid Unicode, or the class is unknown.
    """
    with naming("prompt"):
        check_text(prompt, "the prompt")
        if engine.pipeline.family.takes == "prompt":
            if not prompt.strip() and not may_be_empty:
                raise InputError("the prompt is empty: expected a text that describes the image")
            if (size := len(prompt.encode())) > engine.limits.body_bytes:
                raise InputError(f"the prompt has {size:,} bytes: expected at most {engine.limits.body_bytes:,}")
            return prompt
        if len(prompt) > LONGEST_NAME:
            raise InputError(f"prompt: string should have at most {LONGEST_NAME} characters")
        classes = engine.pipeline.classes
        return classes.id_of(prompt.strip() or classes.no_class)


def model_of(engine: Engine) -> Model:
    """Describe the served model."""
    pipeline, own = engine.pipeline, engine.pipeline.tokenizer.schedule
    return Model(
        id=engine.name,
        takes=pipeline.family.takes,
        size=size_of(pipeline),
        sizes=[size_of(pipeline, schedule) for schedule in templates_of(own) or [own]],
        classes=list(pipeline.class_names),
        scales=[f"{h}x{w}" for h, w in own.sizes],
    )
