"""A model that the studio draws with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from nextscale.analysis.inspection import code_colours
from nextscale.pipeline import Pipeline
from nextscale.web.engine import Engine

LIGHT = 100e6
"""Parameters up to which a transformer draws on a CPU while one looks at the page."""


@dataclass(frozen=True)
class Model:
    """An engine, and what the page says of its pipeline."""

    engine: Engine
    scales: str = ""
    """The schedule that commands have to name, as for .pth files of an unofficial one."""

    @property
    def pipeline(self) -> Pipeline:
        return self.engine.pipeline

    @property
    def name(self) -> str:
        """What commands call it by."""
        return self.engine.name

    @cached_property
    def colours(self) -> Tensor:
        """Of the codes, (V, 3) uint8."""
        return code_colours(self.pipeline.tokenizer)

    @property
    def num_scales(self) -> int:
        return self.pipeline.tokenizer.schedule.num_scales

    @property
    def no_class(self) -> int:
        """The label of images without a class."""
        return self.pipeline.model.config.num_classes

    @property
    def facts(self) -> str:
        """``64 × 64 pixels, 10 classes, scales 1 2 3 4 6 8``."""
        h, w = self.pipeline.tokenizer.config.image_size
        return f"{w} × {h} pixels, {self.no_class} classes, scales {self.pipeline.tokenizer.schedule}"

    @property
    def is_quick(self) -> bool:
        """Whether it may draw before anybody has asked."""
        size = sum(parameter.numel() for parameter in self.pipeline.model.parameters())
        return self.pipeline.device.type != "cpu" or size < LIGHT

    @cached_property
    def choices(self) -> list[tuple[str, int]]:
        """What a class picker offers: names that are not just numbers come with their number."""
        names = self.pipeline.class_names
        return [
            *((name if name == str(i) else f"{name} ({i})", i) for i, name in enumerate(names)),
            ("no class", self.no_class),
        ]

    def label_name(self, label: int) -> str:
        return "no class" if label == self.no_class else self.pipeline.class_names[label]
