"""Requests in the sampler's terms: class labels or prompts, negative prompts, and the shape of the images.

A pipeline has one `Requests`, which parses the arguments of its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

from torch import Tensor

from nextscale.conditioning.classes import ClassNames
from nextscale.conditioning.feature_cache import TextEncoder, content_of, notes_of
from nextscale.conditioning.prompts import TextOptions, check_prompts, with_positive_phrase
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.families.family import Family
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape
from nextscale.scales.schedule import ScaleSchedule

SHAPE = tuple(f.name for f in fields(ImageShape))
TEXT_OPTIONS = tuple(f.name for f in fields(TextOptions))
OPTIONS = (*TEXT_OPTIONS, *SHAPE)
"""Arguments of a pipeline that describe a request, beside the labels or prompts."""


@dataclass(frozen=True)
class Request:
    """A request as arguments of `nextscale.sample_scales`."""

    conditions: Any
    """Class labels or `TextFeatures`."""
    prompts: tuple[str, ...] = ()
    """The prompt of each image, for text-to-image models."""
    negative: TextFeatures | None = None
    notes: tuple[str, ...] = ()
    """See `Requests.notes`."""


class Requests(Protocol):
    """Parses the requests to a pipeline."""

    @property
    def takes(self) -> Literal["class", "prompt"]: ...

    def at(self, schedule: Any, /) -> Requests:
        """Return the requests of a call with a schedule; None means the model's own."""
        ...

    def memory_to_load(self, wanted: Any, /) -> int:
        """Return the bytes of the weights of a text encoder that `parse` would load."""
        ...

    @property
    def keeps_encoder(self) -> bool:
        """Whether a text encoder stays in memory after `parse`."""
        ...

    def parse(
        self, wanted: Any, num_images: int | None, options: Mapping[str, Any], /, is_edit: bool = False
    ) -> Request:
        """Parse a request for images.

        Args:
            wanted: class labels or prompts.
            options: any of `OPTIONS`.
            is_edit: whether prompts may be empty.
        """
        ...

    def notes(self, wanted: Any, options: Mapping[str, Any], /) -> tuple[str, ...]:
        """Return sentences about what the model cannot follow in a request, such as words that it does not know."""
        ...

    def encoder_of(self, prompts: Sequence[str], options: Mapping[str, Any], /) -> str:
        """Return what identifies the text encoder of a request, see `nextscale.conditioning.feature_cache.content_of`;
        empty if none is used."""
        ...

    def schedule_of(self, options: Mapping[str, Any], /) -> ScaleSchedule | None:
        """Return the schedule of the images that `OPTIONS` ask for; None means the model's own.

        Raises:
            InputError: the model does not have an option, or an option is not valid.
        """
        ...

    def load(self) -> None:
        """Load and try what is otherwise loaded when the first request comes.

        Raises:
            InputError: it is missing or damaged.
        """
        ...

    def variants(self, wanted: Any, num_images: int | None, /) -> tuple[Any, int | None]:
        """Return the first two arguments of `parse` for variants of one image.

        Args:
            wanted: one label or prompt for all variants, or one for each, or None.
        """
        ...

    def schedule_for(self, given: tuple[int, int], shape: ImageShape, /) -> ScaleSchedule | None:
        """Return the schedule for editing an image or a video; None means the model's own.

        Args:
            given: (height, width) of the image.
            shape: if it is empty, the shape of the image decides, if the model allows it.
        """
        ...


@dataclass(frozen=True)
class ClassRequests:
    """Requests to a class-conditional model.

    Args:
        image_size: (height, width) of its images in pixels.
    """

    names: ClassNames
    schedule: ScaleSchedule
    image_size: tuple[int, int]
    takes: Literal["class", "prompt"] = "class"

    keeps_encoder: bool = False

    def at(self, schedule: Any) -> ClassRequests:
        return self

    def memory_to_load(self, wanted: Any) -> int:
        return 0

    def parse(self, wanted: Any, num_images: int | None, options: Mapping[str, Any], is_edit: bool = False) -> Request:
        return Request(self.names.ids(wanted))

    def notes(self, wanted: Any, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ()

    def encoder_of(self, prompts: Sequence[str], options: Mapping[str, Any]) -> str:
        return ""

    def load(self) -> None:
        pass

    def variants(self, wanted: Any, num_images: int | None) -> tuple[Any, int | None]:
        ids = self.names.per_variant(wanted, num_images)
        return ids, 1 if isinstance(ids, str) and num_images is None else num_images

    def schedule_for(self, given: tuple[int, int], shape: ImageShape) -> ScaleSchedule | None:
        shape.schedule(self.schedule, self.image_size)  # refuses another one
        return None

    def schedule_of(self, options: Mapping[str, Any]) -> ScaleSchedule | None:
        for name in TEXT_OPTIONS:
            if options.get(name) not in (None, "", False):
                raise InputError(f"{name} is for text-to-image models: this one takes class labels")
        shape_of(options).schedule(self.schedule, self.image_size)  # refuses another one
        return None


@dataclass(frozen=True)
class PromptRequests:
    """Requests to a text-to-image model.

    Args:
        schedule: the model's own.
        image_size: (height, width) in pixels of the images of ``schedule``.
        learned: (R, T), the model's features for "no prompt".
        encoder: the text encoder.
    """

    schedule: ScaleSchedule
    image_size: tuple[int, int]
    learned: Tensor = field(repr=False)
    encoder: TextEncoder
    takes: Literal["class", "prompt"] = "prompt"

    def at(self, schedule: Any) -> PromptRequests:
        return self if schedule is None else replace(self, schedule=schedule)

    def texts(self, prompts: Sequence[str], options: TextOptions) -> Sequence[str]:
        """Return the texts to encode for prompts."""
        return [with_positive_phrase(prompt) for prompt in prompts] if options.positive_phrase else prompts

    def memory_to_load(self, wanted: Any) -> int:
        if wanted is None or isinstance(wanted, TextFeatures) or wanted == "":
            return 0
        return getattr(self.encoder, "memory_to_load", 0)  # not known of other encoders

    @property
    def keeps_encoder(self) -> bool:
        return getattr(self.encoder, "keep", True)

    def parse(self, wanted: Any, num_images: int | None, options: Mapping[str, Any], is_edit: bool = False) -> Request:
        said = text_of(options)
        negative = said.negative_prompt
        if isinstance(wanted, TextFeatures):
            notes = self.notes(wanted, options)
            return Request(wanted, (), self.encode([negative]) if negative else None, notes)
        prompts = check_prompts(() if wanted is None else wanted, may_be_empty=is_edit)
        texts = self.texts(prompts, said)
        notes = self.notes(prompts, options)  # before encoding, which would tell some of them
        features = self.encode([*texts, *([negative] if negative else [])])
        count = num_images if num_images is not None and len(prompts) == 1 else len(prompts)
        return Request(
            features.select(range(len(prompts))),
            tuple(prompts) if len(prompts) == count else tuple(prompts) * count,
            features.select([len(prompts)]) if negative else None,
            notes,
        )

    def notes(self, wanted: Any, options: Mapping[str, Any]) -> tuple[str, ...]:
        said = text_of(options)
        prompts = [] if isinstance(wanted, TextFeatures) else check_prompts(wanted, may_be_empty=True)
        texts, negative = self.texts(prompts, said), said.negative_prompt if said.negative_prompt.strip() else ""
        return notes_of(self.encoder, texts, negative) if negative or any(map(str.strip, texts)) else ()

    def encoder_of(self, prompts: Sequence[str], options: Mapping[str, Any]) -> str:
        return content_of(self.encoder) if any(map(str.strip, (*prompts, text_of(options).negative_prompt))) else ""

    def variants(self, wanted: Any, num_images: int | None) -> tuple[Any, int | None]:
        return "" if wanted is None else wanted, num_images

    def schedule_for(self, given: tuple[int, int], shape: ImageShape) -> ScaleSchedule | None:
        return shape.schedule_for(given, self.schedule, self.image_size)

    def schedule_of(self, options: Mapping[str, Any]) -> ScaleSchedule | None:
        text_of(options)
        shape = shape_of(options)
        return None if shape == ANY_SHAPE else shape.schedule(self.schedule, self.image_size)

    def load(self) -> None:
        self.encode(["an image"])
        content_of(self.encoder)

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Encode prompts. Equal ones are encoded once. An empty one gets the model's features for "no prompt".

        Raises:
            InputError: the text encoder is missing or damaged, or its features have another width than the model takes.
        """
        known = {"": self.learned.detach().float().cpu()}
        if unique := [text for text in dict.fromkeys(texts) if text.strip()]:
            features = self.encoder.encode(unique)
            width, expected = features.features.shape[1], self.learned.shape[1]
            if width != expected:
                raise InputError(f"the text encoder gives features of width {width}, but the model takes {expected}")
            known |= dict(zip(unique, features.split(), strict=True))
        return TextFeatures.of([known[text if text.strip() else ""] for text in texts])


def make_requests(
    family: Family, names: ClassNames, tokenizer: Any, model: Any, encoder: Callable[[], TextEncoder]
) -> Requests:
    """Return the requests of a pipeline. ``encoder`` is called for a model that takes prompts."""
    shape = tokenizer.schedule, tokenizer.config.image_size
    if family.takes == "class":
        return ClassRequests(names, *shape)
    kind = PromptRequests
    if family.media == "video":
        from nextscale.families.video_requests import VideoRequests  # most models generate images

        kind = VideoRequests
    return kind(*shape, model.unconditional_text, encoder())


def text_of(options: Mapping[str, Any]) -> TextOptions:
    """Return the options of a request besides its prompts."""
    return TextOptions(**{name: value for name in TEXT_OPTIONS if (value := options.get(name)) is not None})


def shape_of(options: Mapping[str, Any]) -> ImageShape:
    """Return the shape of the images that a request asks for."""
    return ImageShape(**{name: value for name in SHAPE if (value := options.get(name)) is not None})


def take_shape(arguments: dict[str, Any]) -> ImageShape:
    """Remove the shape of the images from the arguments of a call, and return it."""
    return shape_of({name: arguments.pop(name) for name in SHAPE if name in arguments})


def one_schedule(schedule: ScaleSchedule | None, of_shape: ScaleSchedule | None) -> ScaleSchedule | None:
    """Return the schedule of a call, which is given itself or as the shape of the images.

    Raises:
        InputError: both are given.
    """
    if schedule is not None and of_shape is not None:
        raise InputError("expected a schedule, or the shape of the images, got both")
    return of_shape if schedule is None else schedule
