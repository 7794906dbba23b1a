"""Train an image tokenizer: reconstruction, quantization, and optionally a critic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.acceleration.decoding import without_gradients
from nextscale.data.loader import Batch, BatchSlice
from nextscale.imaging.lpips import LPIPS
from nextscale.imaging.psnr_ssim import psnr, ssim
from nextscale.runtime.distributed import all_mean, all_sum, gather
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.usage import CodeUsage
from nextscale.training.adversarial import (
    adaptive_weight,
    critic_hinge,
    feature_distance,
    generator_hinge,
    lecam,
    mean_score,
)
from nextscale.training.codebook_init import kmeans, restart_codes
from nextscale.training.critics.augment import augment, random_augmentation
from nextscale.training.critics.critic import refresh_norms
from nextscale.training.losses import reconstruction_loss
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.setup import check_codebook
from nextscale.training.task import MODEL, Losses, Means, Metrics

CRITIC = "critic"
LECAM_MEMORY = 0.99


class TokenizerTask:
    """Minimise l1 |x^ - x| + l2 (x^ - x)^2 + lpips LPIPS(x^, x) + the quantizer's loss (`ResidualPyramid.quantize`)
    + growth * (weight lambda (-D(x^)) + feature_matching |F(x^) - F(x)|),

    where D and F are the scores and features of the critic. The critic is trained in the same step with the hinge loss.

    Every ``restart_every`` steps, codes that were not used since the last restart are set to features of the current
    batch. With ``fresh_codes``, the codebook is initialised from features of the first batch by k-means.
    """

    def __init__(
        self,
        model: ImageTokenizer,
        recipe: TokenizerRecipe,
        critic: nn.Module | None = None,
        perceptual: LPIPS | None = None,
        fresh_codes: bool = True,
    ):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.critic, self.perceptual, self.fresh_codes = critic, perceptual, fresh_codes
        self.networks: dict[str, nn.Module] = {MODEL: model} | ({CRITIC: critic} if critic else {})
        levels = range(len(model.config.multipliers))
        self.units = [f"{part}.levels.{i}" for part in ("encoder", "decoder") for i in levels]
        self.shards = self.units
        for i, phi in enumerate(model.pyramid.phi):
            if i not in model.pyramid.phi_of_scale:
                phi.requires_grad_(False)
        check_codebook(model)
        codes = model.pyramid.codebook.weight
        self.hits = torch.zeros(len(codes), device=codes.device)
        """Uses of each code since the last restart, in all processes."""
        self.new_hits = torch.zeros_like(self.hits)
        """Uses of each code in the current step, in this process."""
        self.scores = torch.zeros(2, device=codes.device)
        """Moving averages of the critic's scores for images and for reconstructions."""
        self.usage = CodeUsage(model.schedule, len(codes), codes.device)
        self._looks: list[Tensor] = []

    def optimizer_options(self, network: str) -> dict[str, Any]:
        game = self.recipe.adversarial
        return {"ratio": game.learning_rate, "betas": game.betas} if network == CRITIC and game else {}

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        recipe, images = self.recipe, batch.images
        depths = random_depths(batch.batch_slice, recipe.scale_dropout, self.config.schedule.num_scales, generator)
        result = self.networks[MODEL](images, recipe.commitment, None if depths is None else depths.to(images.device))
        self._count(result.tokens, result.looks)
        reconstruction = reconstruction_loss(result.images, images, recipe.l1, recipe.l2)
        metrics = {"reconstruction": reconstruction, "vq": result.vq_loss}
        if self.perceptual:
            metrics["lpips"] = self.perceptual(result.images, images).mean()
            reconstruction = reconstruction + recipe.lpips * metrics["lpips"]
        losses = {MODEL: reconstruction + result.vq_loss}
        if self.critic and recipe.adversarial and (growth := recipe.adversarial.growth(step, recipe.steps)):
            adversarial, losses[CRITIC], figures = self._adversarial(result.images, reconstruction, batch, generator)
            losses[MODEL] = losses[MODEL] + growth * adversarial
            metrics |= figures
        metrics["psnr"] = psnr(result.images.detach().clamp(-1, 1), images).mean()
        return losses, metrics

    def _adversarial(
        self, fake: Tensor, reconstruction: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Return the tokenizer's adversarial loss, the critic's loss, and metrics."""
        assert self.critic and self.recipe.adversarial
        game, real = self.recipe.adversarial, batch.images
        if game.augment:
            how = random_augmentation(batch.batch_slice, generator, real.device)
            real, fake = augment(real, how), augment(fake, how)

        self.critic.requires_grad_(False)
        judged = self.critic(fake)
        adversarial = generator_hinge(judged.logits)
        weight = torch.tensor(game.weight, device=real.device)
        if game.adaptive:
            last = self.model.decoder.conv_out.weight
            weight = weight * adaptive_weight(reconstruction, adversarial, last, game.largest_lambda)
        loss_of_model, metrics = weight * adversarial, {"adversarial": adversarial, "adversarial_weight": weight}
        if game.feature_matching:
            metrics["feature_distance"] = feature_distance(judged.features, self.critic(real).features)
            loss_of_model = loss_of_model + game.feature_matching * metrics["feature_distance"]
        self.critic.requires_grad_(True)

        both = self.networks[CRITIC](torch.cat((real, fake.detach())))
        of_real, of_fake = zip(*(logits.chunk(2) for logits in both.logits), strict=True)
        of_real, of_fake = list(of_real), list(of_fake)
        loss = critic_hinge(of_real, of_fake)
        if game.lecam:
            loss = loss + game.lecam * lecam(of_real, of_fake, self.scores)
        with torch.no_grad():
            scores = torch.stack((mean_score(of_real), mean_score(of_fake)))
        return loss_of_model, loss, metrics | {"score_real": scores[0], "score_fake": scores[1]}

    def _count(self, tokens: list[Tensor], looks: Tensor) -> None:
        self.usage.add(tokens)
        self.new_hits += torch.cat(tokens, dim=1).flatten().bincount(minlength=len(self.hits))
        self._looks.append(looks)

    def after_step(self, step: int, metrics: Metrics, generator: torch.Generator) -> Metrics:
        if "score_real" in metrics:
            assert self.critic
            refresh_norms(self.critic)
            scores = all_mean(torch.stack((metrics["score_real"], metrics["score_fake"])))
            self.scores.lerp_(scores, 1 - LECAM_MEMORY)
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

    def report(self) -> dict[str, Any]:
        all_sum(self.usage.counts)
        alarm = self.usage.collapsed()
        figures = {"usage": self.usage.used().tolist(), "perplexity": self.usage.perplexity().tolist()}
        self.usage.counts.zero_()
        return figures | ({"alarm": alarm} if alarm else {})

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        assert isinstance(model, ImageTokenizer)
        usage, means = CodeUsage(model.schedule, model.config.codebook_size, self.hits.device), Means()
        model = without_gradients(model)
        for batch in batches:
            tokens = model.encode(batch.images)
            usage.add([scale[: batch.batch_slice.count] for scale in tokens])
            steps = list(model.pyramid.accumulate(tokens))
            decoded = [model.decode_canvas(step.canvas) for step in steps]
            figures = {
                "psnr": psnr(decoded[-1], batch.images).mean(),
                "ssim": ssim(decoded[-1], batch.images).mean(),
                "l1": (decoded[-1] - batch.images).abs().mean(),
                "scale_psnr": torch.stack([psnr(images, batch.images).mean() for images in decoded]),
            }
            if self.perceptual:
                figures["lpips"] = self.perceptual(decoded[-1], batch.images).mean()
            means.add(figures, batch.batch_slice.count)
        all_sum(usage.counts)
        return means.read() | {
            "usage": usage.used().tolist(),
            "perplexity": usage.perplexity().tolist(),
            "unused_codes": usage.unused(),
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"hits": self.hits, "scores": self.scores}


def random_depths(batch_slice: BatchSlice, rate: float, scales: int, generator: torch.Generator) -> Tensor | None:
    """Return the number of scales to decode each image from (scale dropout, arXiv 2107.03312).

    With probability ``rate`` the number is uniform in 1..K; otherwise it is K. This trains the first scales to carry
    the most important content.

    Returns:
        (count,) int64, or None if ``rate`` is 0.
    """
    if rate == 0:
        return None
    chance, depth = batch_slice.random(2, generator=generator).unbind(1)
    return torch.where(chance < rate, (depth * scales).long() + 1, scales)
