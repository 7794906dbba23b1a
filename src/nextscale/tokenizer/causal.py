"""Causal 3-D layers: a frame depends on earlier frames only, so a video can be processed in chunks.

A `Stream` holds what a network remembers from one chunk to the next. The first frame of a video stands alone: where
frames are merged in pairs, it is kept, and where a frame becomes two, its two are averaged into one.

Notation: x is (B, C, T, h, w).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAST = 2
"""Number of earlier frames that a kernel of 3 frames covers."""


class Stream:
    """The state of one pass over a video.

    Args:
        chunks: whether more than one chunk comes, so that the end of each has to be kept.
    """

    def __init__(self, chunks: bool = False):
        self.chunks = chunks
        self.is_first = True
        """Whether the current chunk begins the video. The owner of the stream sets it to False after the first."""
        self._past: dict[nn.Module, Tensor] = {}

    def with_past(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return x after the last two input frames of a layer, or two copies of the first frame. -> T + 2 frames."""
        past = x[:, :, :1].expand(-1, -1, PAST, -1, -1) if self.is_first else self._past[layer]
        x = torch.cat((past, x), 2)
        if self.chunks:
            self._past[layer] = x[:, :, -PAST:].clone()
        return x


class CausalConv3d(nn.Conv3d):
    """A 3 x 3 x 3 convolution with zeros around each frame and the past in front of it. Kernel 1 has no context."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3):
        super().__init__(c_in, c_out, kernel, padding=(0, kernel // 2, kernel // 2))

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:  # type: ignore[override]
        """(B, c_in, T, h, w) -> (B, c_out, T, h, w)."""
        if self.kernel_size[0] > 1:
            x = (stream or Stream()).with_past(self, x)
        return super().forward(x)


class ChannelNorm(nn.Module):
    """RMS norm over channels: x / max(|x|, 1e-12) * sqrt(C) * gamma."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, C, T, h, w)."""
        return F.normalize(x, dim=1) * (math.sqrt(x.shape[1]) * self.gamma)


def space_to_channels(x: Tensor) -> Tensor:
    """(B, C, T, 2h, 2w) -> (B, 4C, T, h, w), with channel (2 row + column) C + c."""
    b, c, t, h, w = x.shape
    x = x.view(b, c, t, h // 2, 2, w // 2, 2)
    return x.permute(0, 4, 6, 1, 2, 3, 5).reshape(b, 4 * c, t, h // 2, w // 2)


def channels_to_space(x: Tensor, frames: int = 1) -> Tensor:
    """(B, 4 f C, T, h, w) -> (B, C, f T, 2h, 2w), from channel ((2 frame + row) 2 + column) C + c. f is ``frames``."""
    b, c, t, h, w = x.shape
    c //= 4 * frames
    x = x.view(b, frames, 2, 2, c, t, h, w).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return x.reshape(b, c, t * frames, 2 * h, 2 * w)


def merge_frames(x: Tensor) -> Tensor:
    """Average pairs of frames. The first of an odd number of frames is kept. T -> ceil(T / 2) frames."""
    first, rest = x[:, :, : x.shape[2] % 2], x[:, :, x.shape[2] % 2 :]
    if not rest.shape[2]:
        return first
    return torch.cat((first, rest.unflatten(2, (-1, 2)).mean(3)), 2)


def merge_first(x: Tensor) -> Tensor:
    """Average the first two frames into one. T -> T - 1 frames."""
    return torch.cat((x[:, :, :2].mean(2, keepdim=True), x[:, :, 2:]), 2)
