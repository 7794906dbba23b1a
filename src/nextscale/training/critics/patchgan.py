"""PatchGAN: a critic that scores each patch of an image (arXiv 1611.07004, as VQGAN uses it)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.training.critics.batch_norm import BatchNorm
from nextscale.training.critics.critic import CriticOutput, normed, start_norms

SLOPE = 0.2


class PatchGAN(nn.Module):
    """Score the patches of images with 4x4 convolutions. (B, 3, H, W) -> logits (B, 1, h, w).

    The network has ``layers`` convolutions of stride 2, one of stride 1, and one that computes the scores. The number
    of channels doubles with each convolution, up to 8 times ``channels``. All have spectral normalisation, or all but
    the first and the last have batch normalisation.

    Args:
        channels: output channels of the first convolution.
        layers: number of stride-2 convolutions. The receptive field of a score is 34 x 34 pixels for 2 and 70 x 70
            for 3.
        norm: spectral or batch.
    """

    def __init__(self, channels: int = 64, layers: int = 3, norm: str = "spectral"):
        super().__init__()
        make = normed if norm == "spectral" else nn.Identity()
        widths = [3] + [channels * min(2**i, 8) for i in range(layers + 1)]
        strides = [2] * layers + [1]
        self.convolutions = nn.ModuleList(
            make(nn.Conv2d(widths[i], widths[i + 1], 4, stride, padding=1, bias=norm == "spectral" or i == 0))
            for i, stride in enumerate(strides)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for width in (widths[2:] if norm == "batch" else ()))
        self.score = make(nn.Conv2d(widths[-1], 1, kernel_size=4, padding=1))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> PatchGAN:
        """Initialise the weights as in DCGAN (arXiv 1511.06434): normal with std 0.02, biases 0."""
        for module in (*self.convolutions, self.score):
            assert isinstance(module, nn.Conv2d)
            if isinstance(module.weight, nn.Parameter):
                module.weight.normal_(std=0.02, generator=generator)
            else:  # setting the normalised weight sets the parameter below it
                module.weight = torch.empty_like(module.weight).normal_(std=0.02, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        start_norms(self, generator)
        return self

    def forward(self, images: Tensor, parts: int = 1) -> CriticOutput:
        """Score images.

        Args:
            parts: number of equal parts of the batch that batch normalisation normalises separately.
        """
        x, features = images, []
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.norms and i:
                x = torch.cat([self.norms[i - 1](part) for part in x.chunk(parts)])
            x = F.leaky_relu(x, SLOPE)
            features.append(x)
        return CriticOutput([self.score(x).float()], features)
