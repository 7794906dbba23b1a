"""The causal 3-D autoencoder of InfinityStar (arXiv 2511.04675, section 3.1): 16 times smaller in space, 4 in time.

The first frame is encoded alone, so that an image is a video of one frame: T frames become (T - 1) / 4 + 1 latent
frames. Encoder and decoder take a `Stream`, with which a video can be processed in chunks, with equal results.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.tokenizer.causal import (
    CausalConv3d,
    ChannelNorm,
    Stream,
    channels_to_space,
    merge_first,
    merge_frames,
    space_to_channels,
)

DOWN_FRAMES = (2, 2, 1)
"""By how much each down-sampling of the encoder shortens a video. The decoder lengthens it in the reverse order."""


class LatentNorm(nn.Module):
    """A norm of the decoder: rms(x) * gain(z) + bias(z), where z is the decoder's input at the size of x."""

    def __init__(self, channels: int, latent_channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.gain = CausalConv3d(latent_channels, channels, 1)
        self.bias = CausalConv3d(latent_channels, channels, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, T, h, w), (B, D, n, h', w') -> (B, C, T, h, w)."""
        t, *size = x.shape[2:]
        if t > 1 and t % 2:  # the first frame stands alone
            first = F.interpolate(z[:, :, :1], (1, *size))
            z = torch.cat((first, F.interpolate(z[:, :, 1:], (t - 1, *size))), 2)
        else:
            z = F.interpolate(z, (t, *size))
        return self.norm(x) * self.gain(z) + self.bias(z)


class EncoderBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1, self.conv2 = CausalConv3d(channels, channels), CausalConv3d(channels, channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)), stream)
        return x + self.conv2(F.silu(self.norm2(y)), stream)


class DecoderBlock(nn.Module):
    """As `EncoderBlock`, with norms that see the latents."""

    def __init__(self, channels: int, latent_channels: int):
        super().__init__()
        self.norm1, self.norm2 = LatentNorm(channels, latent_channels), LatentNorm(channels, latent_channels)
        self.conv1, self.conv2 = CausalConv3d(channels, channels), CausalConv3d(channels, channels)

    def forward(self, x: Tensor, z: Tensor, stream: Stream) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, z)), stream)
        return x + self.conv2(F.silu(self.norm2(y, z)), stream)


class Down(nn.Module):
    """Halve height and width, and the number of frames if ``frames`` is 2. The shortcut averages groups of channels."""

    def __init__(self, c_in: int, c_out: int, frames: int):
        super().__init__()
        self.norm, self.conv = ChannelNorm(c_in), CausalConv3d(c_in, c_out // 4)
        self.frames = frames

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """(B, c_in, T, 2h, 2w) -> (B, c_out, ceil(T / frames), h, w)."""
        y = self.shrink(self.conv(F.silu(self.norm(x)), stream))
        shortcut = self.shrink(x).unflatten(1, (-1, y.shape[1])).mean(1)
        return y + shortcut

    def shrink(self, x: Tensor) -> Tensor:
        x = space_to_channels(x)
        return merge_frames(x) if self.frames == 2 else x


class Up(nn.Module):
    """Double height and width, and the number of frames if ``frames`` is 2. The shortcut repeats channels."""

    def __init__(self, c_in: int, c_out: int, frames: int):
        super().__init__()
        self.norm, self.conv = ChannelNorm(c_in), CausalConv3d(c_in, 4 * frames * c_out)
        self.frames = frames

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """(B, c_in, T, h, w) -> (B, c_out, frames T, 2h, 2w), with one frame less at the start of a video."""
        y = self.conv(F.silu(self.norm(x)), stream)
        y = channels_to_space(y + x.repeat(1, y.shape[1] // x.shape[1], 1, 1, 1), self.frames)
        return merge_first(y) if self.frames == 2 and stream.is_first else y


class VideoEncoder(nn.Module):
    """Frames to features, 8 times smaller in space.

    Args:
        channels: of the four stages and the middle.
        num_blocks: residual blocks of each stage.
        out_channels: of the features.
    """

    def __init__(self, channels: Sequence[int], num_blocks: int, out_channels: int):
        super().__init__()
        *stages, middle = channels
        self.conv_in = CausalConv3d(3, stages[0])
        self.stages = nn.ModuleList(nn.ModuleList(EncoderBlock(c) for _ in range(num_blocks)) for c in stages)
        self.downs = nn.ModuleList(map(Down, stages, stages[1:], DOWN_FRAMES))
        self.middle = nn.ModuleList(EncoderBlock(middle) for _ in range(2))
        self.norm_out, self.conv_out = ChannelNorm(middle), CausalConv3d(middle, out_channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """(B, 3, T, 8h, 8w) -> (B, out_channels, n, h, w)."""
        x = self.conv_in(x, stream)
        for i, stage in enumerate([*self.stages, self.middle]):
            for block in stage:  # type: ignore[union-attr]
                x = block(x, stream)
            if i < len(self.downs):
                x = self.downs[i](x, stream)
        return self.conv_out(F.silu(self.norm_out(x)), stream)


class VideoDecoder(nn.Module):
    """Latents to frames; mirrors `VideoEncoder`. No blocks follow the last up-sampling."""

    def __init__(self, channels: Sequence[int], num_blocks: int, latent_channels: int):
        super().__init__()
        first, *stages = channels
        stages.reverse()
        self.conv_in = CausalConv3d(latent_channels, stages[0])
        self.middle = nn.ModuleList(DecoderBlock(stages[0], latent_channels) for _ in range(2))
        self.stages = nn.ModuleList(
            nn.ModuleList(DecoderBlock(c, latent_channels) for _ in range(num_blocks + 1)) for c in stages
        )
        self.ups = nn.ModuleList(map(Up, stages[1:], [*stages[2:], first], reversed(DOWN_FRAMES)))
        self.norm_out, self.conv_out = LatentNorm(first, latent_channels), CausalConv3d(first, 3)

    def forward(self, z: Tensor, stream: Stream) -> Tensor:
        """(B, latent_channels, n, h, w) -> (B, 3, T, 8h, 8w)."""
        x = self.conv_in(z, stream)
        for i, stage in enumerate([self.middle, *self.stages]):
            for block in stage:  # type: ignore[union-attr]
                x = block(x, z, stream)
            if i >= 2:
                x = self.ups[i - 2](x, stream)
        return self.conv_out(F.silu(self.norm_out(x, z)), stream)
