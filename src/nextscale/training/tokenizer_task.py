"""Training the tokenizer: picture -> features -> tokens -> canvas -> picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.pictures import psnr
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.usage import CodeUsage
from nextscale.training.losses import reconstruction_loss
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.tasks import Metrics, mean_by_picture


class TokenizerTask:
    """loss = l1 |x^ - x| + l2 (x^ - x)^2 + the quantizer's loss (`ResidualPyramid.quantize`).

    Codes that a window of ``restart_every`` steps did not use are set to features of its last batch. The first window
    is the first step, and there all codes count as unused: the codebook starts from the data.
    """

    def __init__(self, model: ImageTokenizer, recipe: TokenizerRecipe):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.hits = torch.zeros(model.config.codebook_size, device=model.pyramid.codebook.weight.device)
        self.looks = self.hits.new_zeros(0, model.config.code_dim)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        result = self.model(batch.images, beta=self.recipe.commitment)
        reconstruction = reconstruction_loss(result.images, batch.images, self.recipe.l1, self.recipe.l2)
        self.looks = result.looks
        self.hits += torch.cat(result.tokens, dim=1).flatten().bincount(minlength=len(self.hits))
        quality = psnr(result.images.detach().clamp(-1, 1), batch.images).mean()
        metrics = {"reconstruction": reconstruction.detach(), "vq": result.vq_loss.detach(), "psnr": quality}
        return reconstruction + result.vq_loss, metrics

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        if step == 0:
            self.hits.zero_()
        elif not self.recipe.restart_every or step % self.recipe.restart_every:
            return {}
        dead = self.hits == 0
        restart_codes(self.model.pyramid.codebook.weight, dead, self.looks, generator)
        self.hits.zero_()
        return {"restarted_codes": dead.sum()} if step else {}

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict:
        assert isinstance(model, ImageTokenizer)
        usage = CodeUsage(model.schedule, model.config.codebook_size)
        rows: list[tuple[int, Metrics]] = []
        for batch in batches:
            tokens = model.encode(batch.images)
            usage.add(tokens)
            decoded = model.decode(tokens)
            figures = {"psnr": psnr(decoded, batch.images).mean(), "l1": (decoded - batch.images).abs().mean()}
            rows.append((len(batch.images), figures))
        return mean_by_picture(rows) | {
            "usage": usage.used().tolist(),
            "perplexity": usage.perplexity().tolist(),
            "unused_codes": usage.unused(),
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"hits": self.hits}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self.hits.copy_(tensors["hits"])


@torch.no_grad()
def restart_codes(codes: Tensor, dead: Tensor, looks: Tensor, generator: torch.Generator) -> None:
    """Set the codes (V, D) marked by ``dead`` (V,) to random rows of ``looks`` (N, D)."""
    count = int(dead.sum())
    if count:
        rows = torch.randint(len(looks), (count,), generator=generator, device=generator.device)
        codes[dead] = looks[rows.to(looks.device)]
