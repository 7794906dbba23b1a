"""Train a text-to-image transformer to predict the bits of all scales under teacher forcing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.data.content import Pixels
from nextscale.data.loader import Batch
from nextscale.errors import InputError
from nextscale.runtime.device import tf32
from nextscale.scales.image_shape import budget_of
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.losses import means_per_scale, scale_weights, token_loss
from nextscale.training.recipes import TextRecipe, TransformerRecipe
from nextscale.training.self_correction import corrected, corrected_tokens, random_flips
from nextscale.training.task import Metrics
from nextscale.training.transformer_task import Noise, TransformerTask
from nextscale.transformer.token_loss import token_loss_in_parts

Read = Callable[[Sequence[str]], Any]
"""Captions to what the model reads, such as `TextFeatures`; it has a method ``to(device)``."""


class TextTask(TransformerTask):
    """Minimise the cross-entropy of all bits under teacher forcing (arXiv 2412.04431).

    Args:
        read: turns captions into the text that the model takes.
    """

    def __init__(self, model: Any, tokenizer: ImageTokenizer, recipe: TransformerRecipe, read: Read):
        super().__init__(model, tokenizer, recipe)
        self.read, self.text = read, recipe.text or TextRecipe()

    def token_loss(
        self, model: nn.Module, head: Callable[[Tensor], Tensor], batch: Batch, noise: Noise | None = None
    ) -> tuple[Tensor, Metrics]:
        text = self.texts(batch)
        schedule = self.schedule_of(batch)
        labels, inputs = self.labels_and_inputs(batch, schedule, noise)
        targets = torch.cat(labels, dim=1).long()
        losses = model(
            text,
            inputs,
            schedule,
            dropped=None if noise is None else noise.dropped,
            paths=None if noise is None else noise.paths,
            readout=lambda features: token_loss_in_parts(head, features, targets),
        )
        weights = scale_weights(schedule) if self.text.loss_weights == "scale" else None
        result = token_loss(losses, schedule, weights)
        whole = means_per_scale(losses.correct.all(dim=-1).float(), schedule)
        metrics = {"scale_loss": result.per_scale, "scale_accuracy": result.accuracy, "scale_token_accuracy": whole}
        return result.mean, metrics

    def texts(self, batch: Batch) -> Any:
        """Return the captions of a batch as the model reads them.

        Raises:
            InputError: it has none.
        """
        if not batch.captions:
            raise InputError("a text-to-image model is trained on captions, but the data has none")
        return self.read(batch.captions).to(batch.labels.device)

    @torch.no_grad()
    def labels_and_inputs(
        self, batch: Batch, schedule: ScaleSchedule, noise: Noise | None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the labels of each scale, K tensors (B, n_k, d) bool, and the inputs (B, L - n_0, d)."""
        flips = [] if noise is None else self.flips(batch, schedule, noise.generator)
        pyramid, content = self.tokenizer.pyramid, batch.content
        if flips and isinstance(content, Pixels):
            return corrected(pyramid, self.features(content.values, schedule), flips, schedule)
        tokens = self.tokens(content, schedule)
        if flips:
            return corrected_tokens(pyramid, tokens, flips, schedule)
        return tokens, pyramid.next_inputs(tokens, schedule)

    def flips(self, batch: Batch, schedule: Any, generator: torch.Generator) -> list[Tensor]:
        """Return the bits to flip at the first scales; none without self-correction."""
        most, scales = self.text.self_correction, self.text.self_correction_scales
        if not most:
            return []
        found = random_flips(schedule, self.bits(schedule), most, scales, batch.batch_slice, generator)
        return [flips.to(batch.labels.device) for flips in found]

    def bits(self, schedule: Any) -> int | Sequence[int]:
        """Return the number of bits of a token, or of a token of each visit."""
        return self.config.bits

    def features(self, images: Tensor, schedule: ScaleSchedule) -> Tensor:
        """Return the features of images that are quantized, (B, D, h_K, w_K)."""
        with torch.autocast(images.device.type, enabled=False), tf32(False):
            return self.tokenizer.encode_features(images, schedule)

    def schedule_of(self, batch: Batch) -> ScaleSchedule:
        """Return the scales of a batch: those of its template at the pixel budget of the model, or the model's."""
        own = self.config.schedule
        return own if batch.template is None else ScaleSchedule.infinity(budget_of(own), batch.template)
