"""Train a text-to-video transformer to predict the bits of some visits under teacher forcing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.data.content import Latents, Pixels
from nextscale.data.loader import Batch
from nextscale.errors import InputError
from nextscale.runtime.device import tf32
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.training.losses import visit_factors
from nextscale.training.recipes import TransformerRecipe, VideoRecipe
from nextscale.training.self_correction import corrected_visits
from nextscale.training.task import Metrics
from nextscale.training.text_task import Read, TextTask
from nextscale.training.transformer_task import Noise
from nextscale.training.visit_choice import choose_scales, one_of_each
from nextscale.transformer.token_loss import TokenLosses, token_loss_in_parts


class VideoTask(TextTask):
    """Minimise the cross-entropy of the bits of one visit of each scale (arXiv 2511.04675).

    The batches hold videos, which the tokenizer encodes, or latents. All have the tokenizer's schedule.
    """

    def __init__(self, model: Any, tokenizer: Any, recipe: TransformerRecipe, read: Read):
        if recipe.drop_path:
            raise InputError(f"drop_path is for models of images: expected 0, not {recipe.drop_path}")
        super().__init__(model, tokenizer, recipe, read)
        self.video = recipe.video or VideoRecipe()
        self.schedule: SpacetimeSchedule = tokenizer.schedule
        choose_scales(self.schedule, self.video.subsets, torch.Generator())  # refuses subsets of other schedules

    def prepare(self, tokenizer: Any) -> Any:
        return tokenizer.eval()

    def token_loss(
        self, model: nn.Module, head: Callable[..., Tensor], batch: Batch, noise: Noise | None = None
    ) -> tuple[Tensor, Metrics]:
        text = self.texts(batch)
        visits = self.chosen(None if noise is None else noise.generator)
        labels, inputs = self.labels_and_looks(batch, visits, noise)
        targets = {visit: bits.long() for visit, bits in zip(visits, labels, strict=True)}

        def losses_of(features: Tensor, visit: Visit) -> TokenLosses:
            return token_loss_in_parts(lambda part: head(part, visit), features, targets[visit])

        dropped = None if noise is None else noise.dropped
        losses = model(text, torch.cat(inputs, dim=1), visits, dropped, losses_of)
        return self.weighted(visits, losses), self.metrics_of(visits, losses)

    def weighted(self, visits: Sequence[Visit], losses: Sequence[TokenLosses]) -> Tensor:
        """Return the weighted mean of the losses of all tokens."""
        counts = torch.tensor([visit.num_tokens for visit in visits], dtype=torch.float64)
        weights = counts * self.factors(visits)
        means = torch.stack([each.loss.mean() for each in losses])
        return (means * (weights / weights.sum()).to(means)).sum()

    def factors(self, visits: Sequence[Visit]) -> Tensor:
        """Return the factor on the weight of a token of each visit, float64."""
        if self.text.loss_weights == "token":
            return torch.ones(len(visits), dtype=torch.float64)
        return visit_factors(visits, self.schedule.visits[-1].num_tokens)

    @torch.no_grad()
    def metrics_of(self, visits: Sequence[Visit], losses: Sequence[TokenLosses]) -> Metrics:
        """Return loss and accuracy of each scale; NaN for scales that the step does not train."""
        metrics = {
            name: torch.full((self.schedule.num_scales,), math.nan, device=losses[0].loss.device)
            for name in ("scale_loss", "scale_accuracy", "scale_token_accuracy")
        }
        for visit, (loss, correct) in zip(visits, losses, strict=True):
            found = loss.mean(), correct.float().mean(), correct.all(dim=-1).float().mean()
            for values, value in zip(metrics.values(), found, strict=True):
                values[visit.scale] = value
        return metrics

    def chosen(self, generator: torch.Generator | None) -> list[Visit]:
        """Return the visits to train, one of each scale of a random subset; all scales without a generator."""
        if generator is None:
            return one_of_each(self.schedule, range(self.schedule.num_scales))
        return one_of_each(self.schedule, choose_scales(self.schedule, self.video.subsets, generator), generator)

    @torch.no_grad()
    def labels_and_looks(
        self, batch: Batch, visits: Sequence[Visit], noise: Noise | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the labels (B, n, d) bool and the inputs (B, n, D) of each visit."""
        flips = [] if noise is None else self.flips(batch, self.schedule, noise.generator)
        return corrected_visits(self.tokenizer.pyramid, self.latents(batch), flips, self.schedule, visits)

    def latents(self, batch: Batch) -> Tensor:
        """Return the latents of a batch, (B, D, N, h, w). Videos are encoded."""
        match batch.content:
            case Latents(values):
                return values.float()
            case Pixels(values):
                videos = values if values.ndim == 5 else values[:, :, None]  # images
                with tf32(False):
                    return self.tokenizer.encode_latents(videos)
            case other:
                raise InputError(f"expected videos or latents, not {type(other).__name__}")

    def bits(self, schedule: Any) -> list[int]:
        return [self.tokenizer.pyramid.quantizer(visit).dim for visit in schedule.visits]
