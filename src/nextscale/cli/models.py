"""Flags that say which model, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nextscale.pipeline import Pipeline
from nextscale.scales.schedule import ScaleSchedule

Dtype = Literal["float32", "bfloat16", "float16"]
Int8Dtype = Literal["int8", "int8-float32", "int8-bfloat16"]
SamplingDtype = Literal["auto", Dtype, Int8Dtype]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and where it runs. Every verb that takes a model takes these."""

    model: str = "starter"
    """starter; a folder; FoundationVision/var:d16 ... d36; vae.pth,var.pth; or a .pth file of the official trainer."""
    scales: str | None = None
    """Sides of the scales, such as 1,2,3,4 or 1x1,2x3: only for .pth files of an unofficial schedule."""
    device: str = "auto"
    """auto, cpu, or cuda."""
    dtype: Dtype = "float32"
    """Precision of matrix products and convolutions; of the stored weights for convert and info."""
    seed: int = 0
    """The same seed and settings give the same images; where nothing is drawn, it is taken and has no part."""

    def schedule(self) -> ScaleSchedule | None:
        return ScaleSchedule.parse(self.scales) if self.scales else None

    def load(self) -> Pipeline:
        return Pipeline.from_pretrained(self.model, device=self.device, schedule=self.schedule())
