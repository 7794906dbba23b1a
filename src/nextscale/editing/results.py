"""What a pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

if TYPE_CHECKING:  # imported by the calls that edit
    from nextscale.editing.plan import EditPlan


@dataclass(frozen=True)
class PipelineResult:
    """Generated images."""

    images: list[Image.Image]
    tokens: list[Tensor]
    """K token maps: the sampled tokens, (B, n_k) int64 or bits (B, n_k, D) bool."""
    labels: list[int]
    """The class label of each image; the number of classes means "no class". Empty for text-to-image models."""
    prompts: list[str] = field(default_factory=list, kw_only=True)
    """The prompt of each image, for text-to-image models."""
    notes: list[str] = field(default_factory=list, kw_only=True)
    """Sentences about what the model could not follow in the prompts, such as words that it does not know."""


@dataclass(frozen=True)
class EditResult(PipelineResult):
    """Edited images. Tokens are the sampled ones, before the kept ones replaced them."""

    plan: EditPlan
