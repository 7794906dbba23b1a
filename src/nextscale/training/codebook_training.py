"""What training a codebook adds to the training of a tokenizer: k-means, restarts of codes, and their usage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextscale.data.loader import Batch
from nextscale.runtime.distributed import all_sum, gather
from nextscale.tokenizer.tokenizer import ImageTokenizer, Reconstruction
from nextscale.tokenizer.usage import CodeUsage
from nextscale.training.codebook_init import kmeans, restart_codes
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.scale_dropout import random_depths
from nextscale.training.task import Metrics


class CodebookTraining:
    """Every ``restart_every`` steps, codes that were not used since the last restart are set to features of the current
    batch. With ``fresh_codes``, the codebook is initialised from features of the first batch by k-means.
    """

    def __init__(self, model: ImageTokenizer, recipe: TokenizerRecipe, fresh_codes: bool):
        self.model, self.recipe, self.fresh_codes = model, recipe, fresh_codes
        for i, phi in enumerate(model.pyramid.phi):
            if i not in model.pyramid.phi_of_scale:
                phi.requires_grad_(False)
        codes = model.pyramid.codebook.weight
        self.hits = torch.zeros(len(codes), device=codes.device)
        """Uses of each code since the last restart, in all processes."""
        self.new_hits = torch.zeros_like(self.hits)
        """Uses of each code in the current step, in this process."""
        self.usage = self.new_usage()
        self._looks: list[Tensor] = []

    def new_usage(self) -> CodeUsage:
        """Return usage counts of 0."""
        return CodeUsage(self.model.schedule, len(self.hits), self.hits.device)

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Any]]:
        """Return the batch to train on, and the arguments of the tokenizer's ``forward``."""
        depths = random_depths(batch.batch_slice, self.recipe.scale_dropout, self.model.schedule.num_scales, generator)
        return batch, {"depths": None if depths is None else depths.to(batch.images.device)}

    def count(self, result: Reconstruction) -> None:
        """Count the codes of a part of a batch."""
        assert result.looks is not None
        self.usage.add(result.tokens)
        self.new_hits += torch.cat(result.tokens, dim=1).flatten().bincount(minlength=len(self.hits))
        self._looks.append(result.looks)

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        """Initialise or restart codes if it is time."""
        looks, self._looks = self._looks, []
        self.hits += all_sum(self.new_hits)
        self.new_hits.zero_()
        every, codes = self.recipe.restart_every, self.model.pyramid.codebook.weight
        due = step % every == 0 if step and every else step == 0 and self.fresh_codes
        if not due or not codes.requires_grad:
            return {}
        found, dead = gather(torch.cat(looks)), self.hits == 0
        self.hits.zero_()
        if step == 0:
            codes.data.copy_(kmeans(found, len(codes), self.recipe.kmeans, generator))
            return {}
        restart_codes(codes.data, dead, found, generator)
        return {"restarted_codes": dead.sum()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state to save in checkpoints."""
        return {"hits": self.hits}
