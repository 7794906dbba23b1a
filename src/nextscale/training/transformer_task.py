"""Train a transformer to predict the tokens of all scales under teacher forcing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextscale.acceleration.ready import ready_tokenizer
from nextscale.data.content import Content, Pixels, Tokens
from nextscale.data.loader import Batch, BatchSlice
from nextscale.errors import InputError
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.losses import token_loss
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.task import MODEL, Losses, Means, Metrics
from nextscale.transformer.token_loss import token_loss_in_parts


class Noise(NamedTuple):
    """The random part of a training step."""

    dropped: Tensor
    """(B,) bool, the images that are trained without their class or caption."""
    paths: Tensor | None
    """Factors of `drop_paths`."""
    generator: torch.Generator
    """For all other random numbers of the step."""


class TransformerTask:
    """Minimise the mean cross-entropy of all L tokens under teacher forcing (arXiv 2404.02905, section 3.2).

    The batches hold pixels, which the tokenizer encodes, or tokens.
    """

    def __init__(self, model: Any, tokenizer: ImageTokenizer, recipe: TransformerRecipe):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.tokenizer = self.prepare(tokenizer)
        self.networks: dict[str, nn.Module] = {MODEL: model}
        self.units = [f"blocks.{i}" for i in range(model.config.depth)]
        self.shards = [*self.units, *adaln_names(model)]

    def prepare(self, tokenizer: Any) -> Any:
        """Return a tokenizer that is ready to encode images."""
        return ready_tokenizer(tokenizer, torch.float32)

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        dropped = batch.batch_slice.random(generator=generator) < self.recipe.label_drop
        paths = drop_paths(self.config.depth, self.recipe.drop_path, batch.batch_slice, generator)
        paths = None if paths is None else paths.to(batch.labels.device)
        model = self.networks[MODEL]
        loss, metrics = self.token_loss(model, self.model.logits, batch, Noise(dropped, paths, generator))
        return {MODEL: loss}, metrics

    @torch.no_grad()
    def validate(self, model: Any, batches: Iterable[Batch]) -> dict[str, Any]:
        """Return the loss on validation data, without the noise of training."""
        means = Means()
        for batch in batches:
            loss, metrics = self.token_loss(model, model.logits, batch)
            means.add({"loss": loss} | metrics, batch.batch_slice.count)
        return means.read()

    def token_loss(
        self, model: nn.Module, head: Callable[[Tensor], Tensor], batch: Batch, noise: Noise | None = None
    ) -> tuple[Tensor, Metrics]:
        """Return the loss of a batch, and its loss and accuracy for each scale.

        Args:
            model: the model or a wrapper of it.
            head: features to logits.
        """
        labels, paths = batch.labels, None
        if noise is not None:
            labels, paths = self.model.conditioner.drop(labels, noise.dropped), noise.paths
        with torch.no_grad():
            tokens = self.tokens(batch.content)
            inputs = self.tokenizer.pyramid.next_inputs(tokens)
        targets = torch.cat(tokens, dim=1)
        losses = model(labels, inputs, paths, lambda features: token_loss_in_parts(head, features, targets))
        result = token_loss(losses, self.config.schedule)
        return result.mean, {"scale_loss": result.per_scale, "scale_accuracy": result.accuracy}

    def tokens(self, content: Content, schedule: ScaleSchedule | None = None) -> list[Tensor]:
        """Return the tokens of each scale, K tensors (B, n_k, *shape). Pixels are encoded.

        Args:
            schedule: the scales of the tokens; None means those of the model.
        """
        match content:
            case Tokens(values):
                return list(values.split((schedule or self.config.schedule).tokens_per_scale, dim=1))
            case Pixels(values):
                return self.tokenizer.encode(values, schedule)
            case other:
                raise InputError(f"expected images or tokens, not {type(other).__name__}")


def adaln_names(model: Any) -> list[str]:
    """Return the names of the modules that compute the adaptive norms of a model, if it has them."""
    adaln = getattr(model, "adaln", None)
    if isinstance(adaln, nn.ModuleList):
        return [f"adaln.{i}" for i in range(len(adaln))]
    return [] if adaln is None else ["adaln"]


def drop_paths(depth: int, rate: float, batch_slice: BatchSlice, generator: torch.Generator) -> Tensor | None:
    """Return the factors of the residual branches for drop path (arXiv 1603.09382).

    A factor is 0 with probability p, else 1 / (1 - p). p rises linearly from 0 in the first block to ``rate`` in the
    last one.

    Returns:
        (depth, 2, B), or None if ``rate`` is 0.
    """
    if rate == 0:
        return None
    keep = 1 - torch.linspace(0, rate, depth)[:, None, None]
    uniform = batch_slice.random(depth, 2, generator=generator).permute(1, 2, 0)
    return (uniform < keep) / keep
