"""PatchGAN: a critic that scores each patch of an image (arXiv 1611.07004, as VQGAN uses it)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.training.critics.critic import CriticOutput, normed, start_norms

SLOPE = 0.2


class PatchGAN(nn.Module):
    """Score the patches of images with 4x4 convolutions. (B, 3, H, W) -> logits (B, 1, h, w).

    The network has ``layers`` convolutions of stride 2, one of stride 1, and one that computes the scores. The number
    of channels doubles with each convolution, up to 8 times ``channels``. All have spectral normalisation.

    Args:
        channels: output channels of the first convolution.
        layers: number of stride-2 convolutions. The receptive field of a score is 34 x 34 pixels for 2 and 70 x 70
            for 3.
    """

    def __init__(self, channels: int = 64, layers: int = 3):
        super().__init__()
        widths = [3] + [channels * min(2**i, 8) for i in range(layers + 1)]
        strides = [2] * layers + [1]
        self.convolutions = nn.ModuleList(
            normed(nn.Conv2d(widths[i], widths[i + 1], kernel_size=4, stride=stride, padding=1))
            for i, stride in enumerate(strides)
        )
        self.score = normed(nn.Conv2d(widths[-1], 1, kernel_size=4, padding=1))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> PatchGAN:
        """Initialise the weights as in DCGAN (arXiv 1511.06434): normal with std 0.02, biases 0."""
        for module in (*self.convolutions, self.score):
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            module.weight = torch.empty_like(module.weight).normal_(std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
        start_norms(self, generator)
        return self

    def forward(self, images: Tensor) -> CriticOutput:
        x, features = images, []
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), SLOPE)
            features.append(x)
        return CriticOutput([self.score(x).float()], features)
