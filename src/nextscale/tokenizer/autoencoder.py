"""The convolutional autoencoder of VQGAN (arXiv 2012.09841), as VAR and Infinity use it: images to grids and back.

Level 0 has full resolution, and each further level halves it. In VAR's, self-attention follows every block of the last
level. Infinity's has no attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

NORM_GROUPS = 32
OTHER_GROUPS = 24
"""Number of groups for widths that are not a multiple of 32."""


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(OTHER_GROUPS if channels % NORM_GROUPS else NORM_GROUPS, channels, eps=1e-6)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class ResidualBlock(nn.Module):
    """Compute shortcut(x) + conv(silu(norm(conv(silu(norm(x)))))). (B, C, h, w) -> (B, C', h, w)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = norm(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.silu = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        h = self.norm1(x)
        h = self.conv1(self.silu(h))
        h = self.norm2(h)  # frees the result of conv1
        h = self.conv2(self.silu(h))
        return self.add(self.shortcut(x), h)

    def add(self, x: Tensor, h: Tensor) -> Tensor:
        """Return the sum of shortcut and residual."""
        return x + h


class AttentionBlock(nn.Module):
    """Compute x + proj(softmax(q k^T / sqrt(C)) v), with one attention head over all positions of the grid."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(h.squeeze(1).transpose(1, 2).unflatten(2, x.shape[-2:]))


class Downsample(nn.Module):
    """Halve height and width: pad right and bottom by one, then apply a 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Down-sample (B, C, h, w) -> (B, C, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width: nearest-neighbour up-sampling, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample (B, C, h, w) -> (B, C, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one resolution, then resampling. On the last level, attention follows each block."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, attention: bool, resample: nn.Module):
        super().__init__()
        widths = [in_channels] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(AttentionBlock(out_channels) for _ in range(num_blocks if attention else 0))
        self.resample = resample

    def layers(self) -> Iterator[nn.Module]:
        """Yield the layers before resampling in their order."""
        for i, block in enumerate(self.blocks):
            yield block
            if self.attentions:
                yield self.attentions[i]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers():
            x = layer(x)
        return self.resample(x)


def middle(channels: int, attention: bool) -> nn.Sequential:
    between = AttentionBlock(channels) if attention else nn.Identity()
    return nn.Sequential(ResidualBlock(channels, channels), between, ResidualBlock(channels, channels))


class Encoder(nn.Module):
    """Encode images as features. (B, 3, H, W) -> (B, D, H / 2^(n-1), W / 2^(n-1)) for n levels.

    Args:
        channels: unit of the widths.
        multipliers: width of each level, in units of ``channels``.
        num_blocks: residual blocks per level.
        out_channels: D.
        attention: add self-attention at the last level.
    """

    def __init__(
        self, channels: int, multipliers: Sequence[int], num_blocks: int, out_channels: int, attention: bool = True
    ):
        super().__init__()
        widths = [channels] + [channels * m for m in multipliers]
        last = len(multipliers) - 1
        self.conv_in = conv3x3(3, channels)
        self.levels = nn.ModuleList(
            Level(
                widths[i],
                widths[i + 1],
                num_blocks,
                attention=attention and i == last,
                resample=Downsample(widths[i + 1]) if i < last else nn.Identity(),
            )
            for i in range(len(multipliers))
        )
        self.middle = middle(widths[-1], attention)
        self.norm_out = norm(widths[-1])
        self.silu = nn.SiLU()
        self.conv_out = conv3x3(widths[-1], out_channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)
        for level in self.levels:
            x = level(x)
        return self.conv_out(self.silu(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """Decode features to images. (B, D, h, w) -> (B, 3, 2^(n-1) h, 2^(n-1) w) for n levels.

    It mirrors the encoder, with one more block per level.
    """

    def __init__(
        self, channels: int, multipliers: Sequence[int], num_blocks: int, in_channels: int, attention: bool = True
    ):
        super().__init__()
        widths = [channels * m for m in multipliers] + [channels * multipliers[-1]]
        last = len(multipliers) - 1
        self.conv_in = conv3x3(in_channels, widths[-1])
        self.middle = middle(widths[-1], attention)
        self.levels = nn.ModuleList(
            Level(
                widths[i + 1],
                widths[i],
                num_blocks + 1,
                attention=attention and i == last,
                resample=Upsample(widths[i]) if i > 0 else nn.Identity(),
            )
            for i in range(len(multipliers))
        )
        self.norm_out = norm(widths[0])
        self.silu = nn.SiLU()
        self.conv_out = conv3x3(widths[0], 3)

    def forward(self, features: Tensor) -> Tensor:
        x = self.middle(self.conv_in(features))
        for level in reversed(self.levels):
            x = level(x)
        return self.conv_out(self.silu(self.norm_out(x)))
