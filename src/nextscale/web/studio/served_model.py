"""A model of the studio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten

from PIL import Image
from torch import Tensor

from nextscale.analysis.inspection import token_colours
from nextscale.pipeline import Pipeline
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.image_shape import ImageShape, follows_template
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.engine import Engine

ASPECTS = (
    *("3:1", "5:2", "2:1", "16:9", "3:2", "4:3", "5:4", "1:1"),
    *("4:5", "3:4", "2:3", "9:16", "1:2", "2:5", "1:3"),
)
"""Aspects WIDTH:HEIGHT, one for each template."""
LONGEST_CAPTION = 28
"""Most characters of a prompt in a caption."""
LIGHT = 100e6
"""Maximum number of parameters of a transformer that is fast on a CPU."""


@dataclass(frozen=True)
class Model:
    """An engine and information about its model."""

    engine: Engine
    scales: str = ""
    """Value of ``--scales`` in commands, for .pth files with an unofficial schedule."""

    @property
    def pipeline(self) -> Pipeline:
        return self.engine.pipeline

    @property
    def name(self) -> str:
        """Value of ``--model`` in commands."""
        return self.engine.name

    @property
    def is_text(self) -> bool:
        """Whether the model takes prompts instead of classes."""
        return self.pipeline.family.takes == "prompt"

    @property
    def settings(self) -> SamplingSettings:
        """Its default settings."""
        return self.pipeline.settings

    @cached_property
    def colours(self) -> Tensor:
        """Colours of the codes, (V, 3) uint8, or of the bits, see `token_colours`."""
        return token_colours(self.pipeline.tokenizer)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of images in pixels."""
        return self.pipeline.tokenizer.config.image_size

    @property
    def num_scales(self) -> int:
        return self.pipeline.tokenizer.schedule.num_scales

    @property
    def no_class(self) -> int:
        """The label that means "no class"."""
        return len(self.pipeline.classes)

    @property
    def facts(self) -> str:
        """A summary such as ``64 × 64 pixels, 10 classes, scales 1 2 3 4 6 8``."""
        h, w = self.image_size
        takes = f"{self.no_class} classes"
        if self.is_text:
            takes = "text to image" + (f", {len(ASPECTS)} aspects" if self.has_aspects else "")
        return f"{w} × {h} pixels, {takes}, scales {self.pipeline.tokenizer.schedule}"

    @property
    def is_quick(self) -> bool:
        """Whether the model is fast enough to generate images each time the page is opened."""
        size = sum(parameter.numel() for parameter in self.pipeline.model.parameters())
        return self.pipeline.device.type != "cpu" or size < LIGHT

    @cached_property
    def choices(self) -> list[tuple[str, int]]:
        """Entries of a class picker: names with their number, then "no class"."""
        names = self.pipeline.class_names
        return [
            *((name if name == str(i) else f"{name} ({i})", i) for i, name in enumerate(names)),
            ("no class", self.no_class),
        ]

    @property
    def has_aspects(self) -> bool:
        """Whether images may have several aspects."""
        return follows_template(self.pipeline.tokenizer.schedule)

    @cached_property
    def aspects(self) -> list[tuple[str, str]]:
        """Entries of an aspect picker: names with the size of the images, and the aspect, which is empty for the
        model's own."""
        tokenizer, own = self.pipeline.tokenizer, self.pipeline.tokenizer.schedule
        entries: list[tuple[str, str]] = []
        for aspect in ASPECTS:
            schedule = ImageShape(aspect=aspect).schedule(own, self.image_size)
            h, w = tokenizer.config.image_size_of(schedule)
            kind = "square" if h == w else "wide" if h < w else "tall"
            entries.append((f"{aspect} {kind}, {w} × {h}", "" if schedule == own else aspect))
        return entries

    def schedule_for(self, image: Image.Image) -> ScaleSchedule:
        """Return the scales for editing an image."""
        return self.pipeline.tokenizer.schedule_or_own(self.pipeline.schedule_for(image))

    def size_of(self, schedule: ScaleSchedule) -> tuple[int, int]:
        """Return (height, width) of the images of a schedule, in pixels."""
        return self.pipeline.tokenizer.config.image_size_of(schedule)

    def notes(self, prompt: str) -> tuple[str, ...]:
        """Return sentences about what the model cannot follow in a prompt, such as words that it does not know."""
        return self.pipeline.requests.notes([prompt], {})

    def wanted_name(self, wanted: int | str) -> str:
        """Return a short name of a class or a prompt."""
        if isinstance(wanted, str):
            return shorten(wanted, LONGEST_CAPTION, placeholder=" …") or "no prompt"
        return "no class" if wanted == self.no_class else self.pipeline.classes.name_of(wanted)
