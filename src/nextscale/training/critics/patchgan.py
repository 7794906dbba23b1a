"""PatchGAN: a real-or-reconstructed score for each patch (arXiv 1611.07004, as VQGAN uses it)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.training.critics.critic import CriticOutput, normed, start_norms

SLOPE = 0.2


class PatchGAN(nn.Module):
    """(B, 3, H, W) -> logits (B, 1, h, w), by 4x4 convolutions with spectral norm.

    ``layers`` convolutions of stride 2, each with twice the channels of the one before up to 8 times the first, then
    one of stride 1 and the scores.

    Args:
        channels: of the first convolution.
        layers: how often the side is halved. A score sees 34 x 34 pixels for 2, 70 x 70 for 3.
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
        """Weights normal with std 0.02, biases 0, as in DCGAN (arXiv 1511.06434)."""
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
