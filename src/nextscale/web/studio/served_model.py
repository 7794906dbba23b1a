"""A model of the studio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from nextscale.analysis.inspection import code_colours
from nextscale.pipeline import Pipeline
from nextscale.web.engine import Engine

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

    @cached_property
    def colours(self) -> Tensor:
        """Colours of the codes, (V, 3) uint8."""
        return code_colours(self.pipeline.tokenizer)

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
        return f"{w} × {h} pixels, {self.no_class} classes, scales {self.pipeline.tokenizer.schedule}"

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

    def label_name(self, label: int) -> str:
        return "no class" if label == self.no_class else self.pipeline.classes.name_of(label)
