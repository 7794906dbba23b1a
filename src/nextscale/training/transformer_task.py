"""Training the transformer: tokens of the given scales -> guesses of all tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.acceleration.ready import ready_tokenizer
from nextscale.data.loader import Batch, BatchSlice
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.losses import TokenLoss, token_loss
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.task import MODEL, Losses, Means, Metrics
from nextscale.transformer.var import VAR


class TransformerTask:
    """loss = mean cross-entropy of all L tokens under teacher forcing (VAR, equation 7)."""

    def __init__(self, model: VAR, tokenizer: ImageTokenizer, recipe: TransformerRecipe):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.tokenizer = ready_tokenizer(tokenizer, torch.float32)
        self.networks: dict[str, nn.Module] = {MODEL: model}
        self.units = [f"blocks.{i}" for i in range(model.config.depth)]
        self.shards = [*self.units, *(f"adaln.{i}" for i in range(len(model.adaln)))]

    def optimizer_options(self, network: str) -> dict[str, Any]:
        return {}

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        labels = drop_labels(
            batch.labels, self.config.num_classes, self.recipe.label_drop, batch.batch_slice, generator
        )
        paths = drop_paths(self.config.depth, self.recipe.drop_path, batch.batch_slice, generator)
        paths = None if paths is None else paths.to(labels.device)
        result = self._token_loss(self.networks[MODEL], batch, labels, paths)
        return {MODEL: result.mean}, {"scale_loss": result.per_scale, "scale_accuracy": result.accuracy}

    def after_step(self, step: int, metrics: Metrics, generator: torch.Generator) -> Metrics:
        return {}

    def report(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        """Without label drop."""
        means = Means()
        for batch in batches:
            result = self._token_loss(model, batch, batch.labels)
            figures = {"loss": result.mean, "scale_loss": result.per_scale, "scale_accuracy": result.accuracy}
            means.add(figures, batch.batch_slice.count)
        return means.read()

    def _token_loss(self, model: nn.Module, batch: Batch, labels: Tensor, paths: Tensor | None = None) -> TokenLoss:
        with torch.no_grad():
            tokens = self.tokens(batch.images)
            inputs = self.tokenizer.pyramid.next_inputs(tokens)
        guesses = model(labels, inputs, paths, torch.cat(tokens, dim=1))
        return token_loss(guesses, self.config.schedule)

    def tokens(self, images: Tensor) -> list[Tensor]:
        """Of images (B, 3, H, W), or those that a cache has in their place (B, L)."""
        if images.dtype == torch.int64:
            return list(images.split(self.config.schedule.tokens_per_scale, dim=1))
        return self.tokenizer.encode(images)

    def tensors(self) -> dict[str, Tensor]:
        return {}


def drop_labels(
    labels: Tensor, num_classes: int, rate: float, batch_slice: BatchSlice, generator: torch.Generator
) -> Tensor:
    """Each label becomes "no class" with probability ``rate``. (B,) -> (B,)."""
    return labels.masked_fill((batch_slice.random(generator=generator) < rate).to(labels.device), num_classes)


def drop_paths(depth: int, rate: float, batch_slice: BatchSlice, generator: torch.Generator) -> Tensor | None:
    """What each residual branch is multiplied with: 0 with its rate p, else 1 / (1 - p) (arXiv 1603.09382).

    p rises linearly from 0 at the first block to ``rate`` at the last. -> (depth, 2, B), or None at rate 0.
    """
    if rate == 0:
        return None
    keep = 1 - torch.linspace(0, rate, depth)[:, None, None]
    drawn = batch_slice.random(depth, 2, generator=generator).permute(1, 2, 0)
    return (drawn < keep) / keep
