"""Training the transformer: tokens of the given scales -> guesses of all tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.losses import TokenLoss, token_loss
from nextscale.training.recipes import VARRecipe
from nextscale.training.tasks import Metrics, mean_by_picture
from nextscale.transformer.transformer import VAR


class VARTask:
    """loss = mean cross-entropy of all L tokens under teacher forcing (VAR, equation 7)."""

    def __init__(self, model: VAR, tokenizer: ImageTokenizer, recipe: VARRecipe):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.tokenizer = tokenizer

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        labels = drop_labels(batch.labels, self.config.num_classes, self.recipe.label_drop, generator)
        paths = drop_paths(self.config.depth, len(labels), self.recipe.drop_path, generator)
        result = self._token_loss(self.model, batch.images, labels, None if paths is None else paths.to(labels.device))
        return result.mean, {"scale_loss": result.per_scale, "scale_accuracy": result.accuracy}

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        return {}

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict:
        rows: list[tuple[int, Metrics]] = []
        for batch in batches:
            result = self._token_loss(model, batch.images, batch.labels)
            figures = {"loss": result.mean, "scale_loss": result.per_scale, "scale_accuracy": result.accuracy}
            rows.append((len(batch.labels), figures))
        return mean_by_picture(rows)

    def _token_loss(self, model: nn.Module, images: Tensor, labels: Tensor, paths: Tensor | None = None) -> TokenLoss:
        with torch.no_grad():
            tokens = self.tokenizer.encode(images)
            inputs = self.tokenizer.pyramid.next_inputs(tokens)
        logits = model(labels, inputs, paths)
        return token_loss(logits, tokens, self.config.schedule)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        pass


def drop_labels(labels: Tensor, num_classes: int, rate: float, generator: torch.Generator) -> Tensor:
    """Each label becomes "no class" with probability ``rate``. (B,) -> (B,)."""
    dropped = torch.rand(len(labels), generator=generator, device=generator.device) < rate
    return labels.masked_fill(dropped.to(labels.device), num_classes)


def drop_paths(depth: int, batch: int, rate: float, generator: torch.Generator) -> Tensor | None:
    """What each residual branch is multiplied with: 0 with its rate p, else 1 / (1 - p) (arXiv 1603.09382).

    p rises linearly from 0 at the first block to ``rate`` at the last. -> (depth, 2, B), or None at rate 0.
    """
    if rate == 0:
        return None
    keep = 1 - torch.linspace(0, rate, depth, device=generator.device)[:, None, None]
    drawn = torch.rand(depth, 2, batch, generator=generator, device=generator.device)
    return (drawn < keep) / keep
