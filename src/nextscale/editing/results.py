"""What a pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from nextscale.imaging.images import to_pil, to_pixels
from nextscale.sampling.run import SamplingRun

if TYPE_CHECKING:  # imported by the calls that edit, or make videos
    from nextscale.editing.plan import EditPlan
    from nextscale.imaging.videos import Video


@dataclass(frozen=True)
class PipelineResult:
    """Generated images or videos."""

    images: list[Image.Image]
    """The images; of videos, the first frames."""
    tokens: list[Tensor]
    """K token maps: the sampled tokens, (B, n_k) int64 or bits (B, n_k, D) bool."""
    labels: list[int]
    """The class label of each image; the number of classes means "no class". Empty for text-to-image models."""
    prompts: list[str] = field(default_factory=list, kw_only=True)
    """The prompt of each image, for text-to-image models."""
    notes: list[str] = field(default_factory=list, kw_only=True)
    """Sentences about what the model could not follow in the prompts, such as words that it does not know."""
    videos: list[Video] = field(default_factory=list, kw_only=True)
    """The videos, for video models. Empty for images."""


@dataclass(frozen=True)
class EditResult(PipelineResult):
    """Edited images. Tokens are the sampled ones, before the kept ones replaced them."""

    plan: EditPlan


def finish(run: SamplingRun, has_labels: bool) -> PipelineResult:
    """Run the sampler to the end, and return the images or videos.

    Args:
        has_labels: whether the model takes class labels.
    """
    said: dict[str, Any] = {"prompts": list(run.prompts), "notes": list(run.notes)}
    if run.schedule.frames == 1:
        result = run.result()
        labels = result.labels.tolist() if has_labels else []
        return PipelineResult(to_pil(as_images(result.images)), result.tokens, labels, **said)
    from nextscale.imaging.videos import collect  # most calls generate images

    videos = collect(map(to_pixels, run.frames()))
    return PipelineResult([video.image(0) for video in videos], run.tokens, [], videos=videos, **said)


def finish_edit(run: SamplingRun, plan: EditPlan, composite: bool, has_labels: bool) -> EditResult:
    """Run the sampler to the end, and return the edited images.

    Args:
        composite: paste the generated part into the image.
        has_labels: whether the model takes class labels.
    """
    result = run.result()
    images = plan.finish(result.images) if composite else to_pil(result.images)
    labels = result.labels.tolist() if has_labels else []
    return EditResult(images, result.tokens, labels, plan, prompts=list(run.prompts), notes=list(run.notes))


def as_images(images: Tensor) -> Tensor:
    """Return images (B, 3, H, W), also of videos (B, 3, T, H, W), whose last frames they are."""
    return images[:, :, -1] if images.ndim == 5 else images
