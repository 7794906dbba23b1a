"""Train an image tokenizer: reconstruction, quantization, and optionally a critic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.acceleration.decoding import without_gradients
from nextscale.data.loader import Batch
from nextscale.imaging.lpips import LPIPS
from nextscale.imaging.psnr_ssim import psnr, ssim
from nextscale.runtime.distributed import all_mean, all_sum
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.adversarial import (
    adaptive_weight,
    critic_hinge,
    feature_distance,
    generator_hinge,
    lecam,
    mean_score,
    score_excess,
)
from nextscale.training.bit_training import BitTraining
from nextscale.training.codebook_training import CodebookTraining
from nextscale.training.critics.augment import augment, random_augmentation
from nextscale.training.critics.critic import refresh_norms
from nextscale.training.losses import reconstruction_loss
from nextscale.training.perceptual import FeatureDistance
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.task import MODEL, Losses, Means, Metrics

CRITIC = "critic"
LECAM_MEMORY = 0.99


class TokenizerTask:
    """Minimise l1 |x^ - x| + l2 (x^ - x)^2 + lpips LPIPS(x^, x) + perceptual |P(x^) - P(x)|
    + quantizer_weight * the quantizer's loss + growth * (weight lambda (-D(x^)) + feature_matching |F(x^) - F(x)|),

    where P are the features of a trained network (`FeatureDistance`), and D and F are the scores and features of the
    critic. The critic is trained in the same step with the hinge loss.
    The quantizer's loss is that of `ResidualPyramid.quantize`, or of `quantize_bits`. `CodebookTraining` and
    `BitTraining` do what else differs between the two quantizers.
    """

    def __init__(
        self,
        model: ImageTokenizer,
        recipe: TokenizerRecipe,
        critic: nn.Module | None = None,
        perceptual: LPIPS | None = None,
        fresh_codes: bool = True,
        features: FeatureDistance | None = None,
    ):
        self.model, self.recipe, self.config = model, recipe, model.config
        self.critic, self.perceptual, self.features = critic, perceptual, features
        self.networks: dict[str, nn.Module] = {MODEL: model} | ({CRITIC: critic} if critic else {})
        levels = range(len(model.config.multipliers))
        self.units = [f"{part}.levels.{i}" for part in ("encoder", "decoder") for i in levels]
        self.shards = self.units
        self.scores = torch.zeros(2, device=model.device)
        """Moving averages of the critic's scores for images and for reconstructions."""
        self.quantizer = (
            BitTraining(model, recipe)
            if model.config.quantizer == "bits"
            else CodebookTraining(model, recipe, fresh_codes)
        )

    def optimizer_options(self, network: str) -> dict[str, Any]:
        game = self.recipe.adversarial
        return {"ratio": game.learning_rate, "betas": game.betas} if network == CRITIC and game else {}

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        recipe = self.recipe
        batch, arguments = self.quantizer.prepare(batch, generator)
        images = batch.images
        result = self.networks[MODEL](images, recipe.commitment, **arguments)
        self.quantizer.count(result)
        reconstruction = reconstruction_loss(result.images, images, recipe.l1, recipe.l2)
        metrics = {"reconstruction": reconstruction, "vq": result.vq_loss, **result.figures}
        if self.perceptual:
            metrics["lpips"] = self.perceptual(result.images, images).mean()
            reconstruction = reconstruction + recipe.lpips * metrics["lpips"]
        if self.features:
            metrics["perceptual"] = self.features(result.images, images)
            reconstruction = reconstruction + recipe.perceptual * metrics["perceptual"]
        losses = {MODEL: reconstruction + recipe.quantizer_weight * result.vq_loss}
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

        separately = (2,) if game.norm == "batch" else ()
        both = self.networks[CRITIC](torch.cat((real, fake.detach())), *separately)
        of_real, of_fake = zip(*(logits.chunk(2) for logits in both.logits), strict=True)
        of_real, of_fake = list(of_real), list(of_fake)
        loss = critic_hinge(of_real, of_fake)
        if game.lecam:
            loss = loss + game.lecam * lecam(of_real, of_fake, self.scores)
        if game.score_penalty:
            loss = loss + game.score_penalty * score_excess(of_real, of_fake)
        with torch.no_grad():
            scores = torch.stack((mean_score(of_real), mean_score(of_fake)))
        return loss_of_model, loss, metrics | {"score_real": scores[0], "score_fake": scores[1]}

    def after_step(self, step: int, metrics: Metrics, generator: torch.Generator) -> Metrics:
        if "score_real" in metrics:
            assert self.critic
            refresh_norms(self.critic)
            scores = all_mean(torch.stack((metrics["score_real"], metrics["score_fake"])))
            self.scores.lerp_(scores, 1 - LECAM_MEMORY)
        return self.quantizer.after_step(step, generator)

    def report(self) -> dict[str, Any]:
        usage = self.quantizer.usage
        all_sum(usage.counts)
        alarm, figures = usage.collapsed(), usage.figures()
        usage.counts.zero_()
        return figures | ({"alarm": alarm} if alarm else {})

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        assert isinstance(model, ImageTokenizer)
        usage, means = self.quantizer.new_usage(), Means()
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
            if self.features:
                figures["perceptual"] = self.features(decoded[-1], batch.images)
            means.add(figures, batch.batch_slice.count)
        all_sum(usage.counts)
        return means.read() | usage.figures() | usage.unused_parts()

    def tensors(self) -> dict[str, Tensor]:
        return self.quantizer.tensors() | {"scores": self.scores}
