"""Adversarial training of the tokenizer: the losses of tokenizer and critic, and the adaptive loss weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.config import LARGEST_WIDTH, LATER, check_fields
from nextscale.runtime.distributed import all_mean

EPS = 1e-6
SCORE_MARGIN = 0.1


@dataclass(frozen=True, kw_only=True)
class AdversarialRecipe:
    """Settings of the critic, and the weights of the tokenizer's adversarial losses."""

    critic: Literal["patchgan", "dino"] = "patchgan"
    """patchgan is trained from scratch. dino trains heads on frozen DINO features; it needs ``dino_weights``."""
    channels: int = field(default=64, metadata={"most": LARGEST_WIDTH})
    """Output channels of PatchGAN's first convolution."""
    layers: int = field(default=3, metadata={"most": 12})
    """Number of stride-2 convolutions of PatchGAN."""
    norm: Literal["spectral", "batch"] = field(default="spectral", metadata=LATER)
    """Normalisation of PatchGAN: spectral (of weights), or batch (of activations, by the statistics of the batch over
    all processes), as in the training of Infinity's tokenizers."""
    init_from: str = field(default="", metadata=LATER)
    """Folder of a run whose critic to start from."""
    dino_weights: str = ""
    """File with the weights of a DINO ViT-S."""
    weight: float = field(default=0.4, metadata={"least": 0.0})
    """Weight of the tokenizer's adversarial loss. With ``adaptive``, it is multiplied by lambda."""
    adaptive: bool = True
    """Balance the adversarial loss against the reconstruction loss by lambda, see `adaptive_weight`."""
    largest_lambda: float = field(default=1.0, metadata={"least": 0.0})
    feature_matching: float = field(default=0.0, metadata={"least": 0.0})
    """Weight of the L1 distance between the critic's features of image and reconstruction (arXiv 1711.11585)."""
    start: float = 0.22
    """Fraction of the steps after which critic and adversarial loss start."""
    warmup: float = field(default=0.02, metadata={"least": 0.0, "most": 1.0})
    """Fraction of the steps, after ``start``, over which the weight of the adversarial loss rises linearly from 0."""
    learning_rate: float = field(default=1.0, metadata={"least": 0.0})
    """Learning rate of the critic divided by that of the tokenizer."""
    betas: tuple[float, float] = (0.5, 0.9)
    augment: bool = True
    """Use DiffAugment (arXiv 2006.10738)."""
    lecam: float = field(default=0.0, metadata={"least": 0.0})
    """Weight of LeCam's regularisation (arXiv 2104.03310)."""
    score_penalty: float = field(default=0.0, metadata={**LATER, "least": 0.0})
    """Weight of `score_excess`, the regularisation of the critic in the training of Infinity's tokenizers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        check_fields(self)
        if self.critic not in ("patchgan", "dino"):
            raise InputError(f"unknown critic {self.critic!r}: expected patchgan or dino")
        if self.norm not in ("spectral", "batch"):
            raise InputError(f"norm must be spectral or batch, not {self.norm!r}")
        if self.critic == "dino" and self.norm != "spectral":
            raise InputError("the critic dino has norm spectral only, not batch")
        if self.critic == "dino" and not self.dino_weights:
            raise InputError("the critic dino needs dino_weights, a file with the weights of a DINO ViT-S")
        if not 0 <= self.start < 1:
            raise InputError(f"start must be a fraction of the steps, at least 0 and below 1, not {self.start}")

    def growth(self, step: int, steps: int) -> float:
        """Return the factor of the adversarial loss at a step: 0 before ``start``, then rising to 1."""
        passed = step - round(self.start * steps)
        return min(max((passed + 1) / max(round(self.warmup * steps), 1), 0.0), 1.0) if passed >= 0 else 0.0


def critic_hinge(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Return the critic's loss 1/2 mean max(0, 1 - D(x)) + 1/2 mean max(0, 1 + D(x^)), averaged over heads.

    Source: the hinge loss of arXiv 1705.02894.
    """
    return (
        torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]).mean() / 2
    )


def generator_hinge(fake: list[Tensor]) -> Tensor:
    """Return the tokenizer's adversarial loss -mean D(x^), averaged over heads."""
    return -mean_score(fake)


def mean_score(logits: list[Tensor]) -> Tensor:
    """Return the mean score over heads, with equal weights."""
    return torch.stack([head.mean() for head in logits]).mean()


def feature_distance(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return the mean of |F(x^) - F(x)| / |F(x)| over images and layers.

    The relative distance gives all layers a similar weight.
    """

    def size(x: Tensor) -> Tensor:
        return x.float().abs().flatten(1).mean(1)

    return torch.stack([(size(f - r) / size(r).clamp_min(EPS)).mean() for f, r in zip(fake, real, strict=True)]).mean()


def lecam(real: list[Tensor], fake: list[Tensor], anchors: Tensor) -> Tensor:
    """Return LeCam's regularisation mean max(0, D(x) - a_fake)^2 + mean max(0, a_real - D(x^))^2.

    Args:
        anchors: (2,), the moving averages a_real and a_fake of the scores.
    """
    anchor_real, anchor_fake = anchors.unbind()
    return torch.stack(
        [
            F.relu(r - anchor_fake).square().mean() + F.relu(anchor_real - f).square().mean()
            for r, f in zip(real, fake, strict=True)
        ]
    ).mean()


def score_excess(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Return max(0, |mean D(x)| - m)^2 + max(0, |mean D(x^)| - m)^2 with the margin m = `SCORE_MARGIN`."""
    means = torch.stack((mean_score(real), mean_score(fake)))
    return F.relu(means.abs() - SCORE_MARGIN).square().sum()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor, largest: float) -> Tensor:
    """Return lambda = |d reconstruction / d W| / |d adversarial / d W|, at most ``largest`` (VQGAN, equation 7).

    Args:
        last: W, the weight of the decoder's last layer. The gradients are means over all processes.
    """
    ours, theirs = (torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, adversarial))
    ours, theirs = all_mean(ours.float()), all_mean(theirs.float())
    return (ours.norm() / theirs.norm().clamp_min(EPS)).clamp(max=largest)
