"""The training task of two towers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.errors import InputError
from nextscale.evaluation.two_towers import Retrieval, TowersConfig, TwoTowers, retrieval
from nextscale.io.config import as_config
from nextscale.training.classifier_task import jitter
from nextscale.training.recipes import Recipe
from nextscale.training.task import MODEL, Losses, Metrics


@dataclass(frozen=True, kw_only=True)
class TowersRecipe(Recipe):
    """Train `TwoTowers`."""

    model: TowersConfig
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cos"
    warmup: float = 0.1
    warmup_start: float = 0.1
    final_ratio: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    ema_decay: float = 0.995
    flip: bool = False
    """Captions may name left and right."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", as_config(TowersConfig, self.model))
        if self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2: an image is compared with others, not {self.batch_size}")


class TowersTask:
    """Minimise the cross-entropies of finding the caption of an image, and the image of a caption, in a batch.

    Colours are changed a little, see `jitter` of the classifier.
    """

    def __init__(self, model: TwoTowers, recipe: TowersRecipe):
        self.model, self.recipe, self.config = model.train(), recipe, model.config
        self.networks: dict[str, nn.Module] = {MODEL: model}
        self.units = self.shards = [f"blocks.{i}" for i in range(len(model.blocks))]

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        images = jitter(batch.images, batch.batch_slice, generator)
        logits = self.networks[MODEL](images, self.model.words.ids(captions_in(batch)).to(images.device)).float()
        own = torch.arange(len(logits), device=logits.device)
        accuracy = (logits.argmax(1) == own).float().mean()
        return {MODEL: (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2}, {"accuracy": accuracy}

    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        assert isinstance(model, TwoTowers)
        return {"retrieval": measure(model, batches).accuracy}


@torch.no_grad()
def measure(model: TwoTowers, batches: Iterable[Batch]) -> Retrieval:
    """Return how often real images find their captions. Puts the model into evaluation mode."""
    model.eval()
    images: list[Tensor] = []
    texts: list[Tensor] = []
    captions: list[str] = []
    for batch in batches:
        images.append(model.images(batch.images))
        texts.append(model.texts(model.words.ids(captions_in(batch)).to(batch.images.device)))
        captions += batch.captions
    return retrieval(torch.cat(images), torch.cat(texts), captions)


def captions_in(batch: Batch) -> tuple[str, ...]:
    """Return the captions of a batch. Raise InputError if there are none."""
    if not batch.captions:
        raise InputError("two towers are trained on images with captions, but the data has none")
    return batch.captions
