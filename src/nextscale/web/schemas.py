"""What goes over the wire: requests and answers in the OpenAI form, with the fields of a next-scale model added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from nextscale.editing.plan import Mode
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.sampling.settings import FOR_IMAGES, LARGEST_CFG, SamplingSettings
from nextscale.web.engine import Engine
from nextscale.web.errors import FieldError
from nextscale.web.tickets import LARGEST_SEED

LONGEST_NAME = 200
NO_CLASS = ("", "none")
LOOKS: dict[str, Any] = FOR_IMAGES.record()


def whole(value: Any) -> Any:
    """``2.0`` and ``1e3`` are integers, too, as JSON Schema has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def allow_null(schema: dict[str, Any]) -> None:
    """In a JSON schema: any field that may be left out may be null."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            outside = {key: field.pop(key) for key in ("default", "description", "title") if key in field}
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **outside}


WHOLE = BeforeValidator(whole)


class SamplingFields(BaseModel):
    """What both kinds of requests have."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=allow_null)

    model: Annotated[str | None, Field(max_length=LONGEST_NAME)] = None
    """Must be the served model's, if given."""
    n: Annotated[int, Field(ge=1), WHOLE] = 1
    """ImageDatas."""
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] = "auto"
    """WIDTHxHEIGHT, which must be the model's, or ``auto``."""
    response_format: Literal["b64_json", "url"] = "b64_json"
    """Only ``b64_json``: the server keeps no files."""
    seed: Annotated[int | None, Field(ge=0, le=LARGEST_SEED), WHOLE] = None
    """Of the first image; image i has seed + i. Left out: a random one, which the answer tells."""
    cfg: Annotated[float, Field(ge=-LARGEST_CFG, le=LARGEST_CFG, allow_inf_nan=False)] = LOOKS["cfg"]
    """Guidance; 0 is none."""
    top_k: Annotated[int, Field(ge=0, le=LARGEST_SEED), WHOLE] = LOOKS["top_k"]
    """Draw among the k most probable tokens; 0 is all."""
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = LOOKS["top_p"]
    """Draw among the most probable tokens that together reach p; 0 is all."""
    more_smooth: bool = False
    """Mix codes by Gumbel-softmax."""
    stream: bool = False
    """Whether to send the images so far after each scale, as server-sent events."""
    partial_images: Annotated[int | None, Field(ge=0, le=100), WHOLE] = None
    """Of a stream: send at most so many of the scales before the last, evenly spread. Left out: all."""
    user: Annotated[str | None, Field(max_length=LONGEST_NAME)] = None
    """Taken for the sake of OpenAI's clients, without effect; so are the next three."""
    quality: Literal["auto", "standard"] = "auto"
    background: Literal["auto", "opaque"] = "auto"
    output_format: Literal["png"] = "png"

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, fields: Any) -> Any:
        """Null means left out."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None or name not in cls.model_fields}

    def settings(self) -> SamplingSettings:
        return SamplingSettings(cfg=self.cfg, top_k=self.top_k, top_p=self.top_p, more_smooth=self.more_smooth)

    def seeds(self, new_seed: Callable[[], int]) -> tuple[int, ...]:
        """One for each image; ``new_seed`` gives the first where the request has none."""
        first = new_seed() if self.seed is None else self.seed
        return tuple(first + i for i in range(self.n))

    def check(self, engine: Engine) -> None:
        """Raises FieldError for another model or size than the served one's, too many images, and for addresses."""
        if self.model not in (None, engine.name):
            raise FieldError("model", f"no model {self.model!r} is served here: expected {engine.name!r}, or none")
        try:
            engine.check_count(self.n)
        except InputError as error:
            raise FieldError("n", error) from error
        size = size_of(engine.pipeline)
        if self.size not in ("auto", size):
            raise FieldError("size", f"the model's images have {size} pixels, not {self.size}")
        if self.response_format == "url":
            raise FieldError("response_format", "the server keeps no files to give the address of: expected 'b64_json'")


class GenerationRequest(SamplingFields):
    """``POST /v1/images/generations``."""

    prompt: Annotated[str, Field(max_length=LONGEST_NAME)]
    """A class: its name or number; empty, ``none`` or ``unconditional`` for no class."""


class EditRequest(SamplingFields):
    """``POST /v1/images/edits``, a form with files."""

    model_config = ConfigDict(extra="forbid", strict=False, json_schema_extra=None)  # a form has nothing but text

    image: UploadFile
    """PNG, JPEG, WebP, GIF (its first frame) or BMP, of any size; brought to the model's, and cropped in the middle."""
    mask: Annotated[UploadFile | None, WithJsonSchema({"type": "string", "format": "binary"})] = None
    """Transparent is drawn anew; if nothing of it is transparent, white. Left out, and no box: image's transparency."""
    box: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    """y0,x0,y1,x1 as fractions of the sides, instead of a mask."""
    prompt: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    """A class, as for generations."""
    mode: Mode = "inpaint"
    """``inpaint`` draws mask or box anew; ``outpaint`` all but it; ``class`` is as inpaint, and demands a prompt."""
    leak_free: bool = True
    """Hide what is drawn anew from the coarse tokens, too."""
    composite: bool = True
    """Lay what is drawn over the image, whose other pixels then stay as they are."""
    softness: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Pixels over which it fades in."""


class ImageData(BaseModel):
    b64_json: str
    """A PNG."""
    seed: int
    """Draws the same image again, with the same settings."""
    label: str
    """Name of the class; ``none`` for no class."""


class ImagesResponse(BaseModel):
    """ImageDatas."""

    created: int
    """Seconds since 1970."""
    model: str
    size: str
    output_format: Literal["png"] = "png"
    data: list[ImageData]


class StreamedImageData(BaseModel):
    """A server-sent event: an image as it stands after a scale (``image_generation.partial_image``), or finished
    (``image_generation.completed``); of an edit, ``image_edit`` instead."""

    type: str
    b64_json: str
    created_at: int
    index: int
    """Which image of the request."""
    partial_image_index: int
    """k, the scale."""
    scale: str
    """Its size, HEIGHTxWIDTH in tokens."""
    size: str
    seed: int
    label: str
    output_format: Literal["png"] = "png"
    background: Literal["opaque"] = "opaque"


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["nextscale"] = "nextscale"
    size: str
    classes: list[str]
    scales: list[str]
    """HEIGHTxWIDTH in tokens."""


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    status: Literal["ready", "shutting down"]
    waiting: int
    """ImageDatas in the queue."""


def size_of(pipeline: Pipeline) -> str:
    """WIDTHxHEIGHT."""
    h, w = pipeline.tokenizer.config.image_size
    return f"{w}x{h}"


def label_of(prompt: str, pipeline: Pipeline) -> int:
    """The class that a prompt names.

    Raises:
        FieldError: an unknown one.
    """
    prompt = prompt.strip()
    try:
        return pipeline.model.config.num_classes if prompt.casefold() in NO_CLASS else pipeline.class_id(prompt)
    except InputError as error:
        raise FieldError("prompt", error) from error


def name_of(label: int, pipeline: Pipeline) -> str:
    return pipeline.class_names[label] if label < len(pipeline.class_names) else "none"


def model_of(engine: Engine) -> Model:
    """What is said of the served model."""
    scales = [f"{h}x{w}" for h, w in engine.pipeline.tokenizer.schedule.sizes]
    return Model(
        id=engine.name, size=size_of(engine.pipeline), classes=list(engine.pipeline.class_names), scales=scales
    )
