"""Flags that name a model and the device it runs on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from nextscale.pipeline import Pipeline
from nextscale.scales.schedule import ScaleSchedule

Dtype = Literal["float32", "bfloat16", "float16"]
Int8Dtype = Literal["int8", "int8-float32", "int8-bfloat16"]
SamplingDtype = Literal["auto", Dtype, Int8Dtype]


@dataclass(frozen=True, kw_only=True)
class MemoryFlags:
    """Use less memory."""

    offload: bool = False
    """Keep each model in memory, or on the GPU, only while it is used: first the text encoder, then the transformer,
    then the decoder. The images are the same, but take longer: every batch moves the weights to the
    device and converts them again."""
    tiles: bool = False
    """Decode images of more than about 360 x 360 pixels in strips, in less memory. The images
    differ by rounding only, at most by one of 255 levels."""


MEMORY_FLAGS = tuple(f.name for f in fields(MemoryFlags))
"""Names of the flags about memory. They do not change what is asked for."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model and its device. All verbs that load a model have these flags."""

    model: str = "starter"
    """Model to load: starter (included in the package); a model folder; d16, d20, d24, d30, d36, infinity-2b,
    infinity-8b or infinity-8b-512, the official weights on the Hugging Face Hub (FoundationVision/var:d16,
    FoundationVision/Infinity:2b and so on); two files vae.pth,var.pth; or one .pth file of the official trainer."""
    scales: str | None = None
    """Sizes of the scales in tokens, such as 1,2,3,4 or 1x1,2x3. Only needed for .pth files whose scale sizes differ
    from those of the official models."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""

    def schedule(self) -> ScaleSchedule | None:
        return ScaleSchedule.parse(self.scales) if self.scales else None

    def load(self, dtype: str = "auto", **options: Any) -> Pipeline:
        return Pipeline.from_pretrained(self.model, self.device, dtype, self.schedule(), **options)
