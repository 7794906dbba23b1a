"""The video tokenizer of InfinityStar: frames to latents of 64 channels and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.config import LARGEST_WIDTH, as_config, check_fields
from nextscale.io.fingerprint import tensors_fingerprint
from nextscale.io.module_folder import load_module, save_module
from nextscale.runtime.device import tf32
from nextscale.scales.spacetime import FRAMES_PER_LATENT, UNIT, SpacetimeSchedule
from nextscale.tokenizer.causal import Stream
from nextscale.tokenizer.spacetime_pyramid import SEMANTIC_BITS, SpacetimePyramid
from nextscale.tokenizer.video_autoencoder import VideoDecoder, VideoEncoder

PATCH = 2
"""Side of the square of feature positions that one latent position covers."""
LEAST_LOG_VARIANCE, LARGEST_LOG_VARIANCE = -30.0, 20.0
ENCODED_AT_ONCE = 8
"""Frames of a chunk in `VideoTokenizer.encode`."""
DECODED_AT_ONCE = 2
"""Latent frames of a chunk in `VideoTokenizer.decode`."""


@dataclass(frozen=True)
class VideoTokenizerConfig:
    """Sizes of a causal video autoencoder. The defaults are the official ones (185 M weights)."""

    channels: tuple[int, ...] = field(default=(96, 192, 384, 384, 384), metadata={"most": LARGEST_WIDTH})
    """Widths of the four stages, coarser and coarser, and of the middle. The last two are equal."""
    num_blocks: int = field(default=2, metadata={"most": 1024})
    """Residual blocks per stage of the encoder; the decoder has one more."""
    latent_channels: int = field(default=16, metadata={"most": LARGEST_WIDTH})
    """Channels of the decoder's input, 8 times smaller than the frames."""
    semantic_bits: int = field(default=SEMANTIC_BITS, metadata={"most": LARGEST_WIDTH})
    """Bits of a semantic token. A detail token has one for each channel of the latents."""
    schedule: SpacetimeSchedule = field(default_factory=SpacetimeSchedule.official)
    """The default schedule of encoding, decoding and sampling."""

    def __post_init__(self) -> None:
        if isinstance(self.channels, list):  # JSON
            object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "schedule", as_config(SpacetimeSchedule, self.schedule))
        check_fields(self)
        if len(self.channels) != 5 or self.channels[3] != self.channels[4]:
            raise InputError(f"channels must be five widths, the last two equal, not {self.channels}")

    @property
    def code_dim(self) -> int:
        """Channels of the latents, 16 times smaller than the frames."""
        return self.latent_channels * PATCH**2

    @property
    def token_dim(self) -> int:
        """Number of bits of a detail token."""
        return self.code_dim

    @property
    def quantizer(self) -> str:
        """Kind of tokens, as in `nextscale.tokenizer.tokenizer.TokenizerConfig`."""
        return "bits"

    @property
    def downsampling(self) -> int:
        """Pixels per side of one token of the last scale."""
        return UNIT

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self.schedule.image_size

    def image_size_of(self, schedule: SpacetimeSchedule) -> tuple[int, int]:
        """Return (H, W) of the frames of a schedule."""
        return schedule.image_size

    def full_size_numbers(self, schedule: SpacetimeSchedule | None = None) -> int:
        """Return how many numbers the largest activation of decoding has: that of the last up-sampling of one chunk.

        Args:
            schedule: None means the tokenizer's.
        """
        schedule = schedule or self.schedule
        height, width = schedule.image_size
        frames = min(schedule.frames, FRAMES_PER_LATENT * DECODED_AT_ONCE)
        return self.channels[0] * frames * height * width


class VideoTokenizer(nn.Module):
    """Encodes videos (B, 3, T, H, W) in [-1, 1] as latents (B, D, N, H / 16, W / 16), and decodes them. T = 4 N - 3.

    An image is a video of one frame.
    """

    def __init__(self, config: VideoTokenizerConfig | None = None):
        super().__init__()
        self.config = c = config or VideoTokenizerConfig()
        self.encoder = VideoEncoder(c.channels, c.num_blocks, 2 * c.latent_channels)
        self.decoder = VideoDecoder(c.channels, c.num_blocks, c.latent_channels)
        self.proj_down = nn.Linear(c.code_dim, c.code_dim)
        self.proj_up = nn.Linear(c.code_dim, c.code_dim)
        self.scale = nn.Parameter(torch.ones(()))
        self.pyramid = SpacetimePyramid(c.schedule, c.code_dim, c.semantic_bits)

    @property
    def schedule(self) -> SpacetimeSchedule:
        return self.config.schedule

    def schedule_or_own(self, schedule: SpacetimeSchedule | None) -> SpacetimeSchedule:
        """Return a schedule, or the tokenizer's own for None."""
        return schedule or self.schedule

    @torch.no_grad()
    def encode(
        self, videos: Tensor, schedule: SpacetimeSchedule | None = None, noise: Tensor | None = None
    ) -> list[Tensor]:
        """Encode videos as the bits of each visit. (B, 3, T, H, W) in [-1, 1] -> (B, n, d) bool for each visit.

        Args:
            schedule: None means the tokenizer's own.
            noise: see `encode_latents`.

        Raises:
            InputError: the videos do not have the size and the number of frames of the schedule.
        """
        schedule = self.schedule_or_own(schedule)
        expected = (3, schedule.frames, *schedule.image_size)
        if tuple(videos.shape[1:]) != expected:
            shape = ", ".join(map(str, expected))
            raise InputError(f"this schedule takes videos of shape (B, {shape}), not {tuple(videos.shape)}")
        return self.pyramid.encode(self.encode_latents(videos, noise), schedule)

    @torch.no_grad()
    def decode(self, tokens: Sequence[Tensor], schedule: SpacetimeSchedule | None = None) -> Tensor:
        """Decode the bits of all visits, or of the first ones. -> (B, 3, T, H, W) in [-1, 1]."""
        tokens = self.check_tokens(tokens, schedule, partial=True)
        return self.decode_canvas(self.pyramid.canvas(tokens, schedule))

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        """Decode the canvases of all clips. (B, D, N, h, w) -> (B, 3, T, H, W) in [-1, 1]."""
        return clip_pixels(self.decode_latents(canvas.to(self.scale.dtype)))

    def check_tokens(
        self, tokens: Sequence[Tensor], schedule: SpacetimeSchedule | None = None, partial: bool = False
    ) -> Sequence[Tensor]:
        """Return the bits unchanged if they fit the visits of the schedule.

        Args:
            partial: allow the bits of the first visits alone.

        Raises:
            InputError: the number of visits or a shape differs.
        """
        visits = self.schedule_or_own(schedule).visits
        expected = visits[: len(tokens)] if partial else visits
        if len(tokens) != len(expected):
            raise InputError(f"expected bits of {len(expected)} visits, got {len(tokens)}")
        for visit, bits in zip(expected, tokens, strict=True):
            shape = (len(tokens[0]), visit.num_tokens, self.pyramid.quantizer(visit).dim)
            if bits.dtype != torch.bool or tuple(bits.shape) != shape:
                found = f"{bits.dtype} {tuple(bits.shape)}"
                raise InputError(f"expected bits of visit {visit.index} as bool {shape}, got {found}")
        return tokens

    def moments(self, videos: Tensor, at_once: int | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents before their projection, each (B, D, N, h, w).

        Args:
            videos: (B, 3, T, H, W) in [-1, 1].
            at_once: frames of a chunk, a multiple of 4, after the first frame; None encodes all in one pass.

        Raises:
            InputError: T is not 1 mod 4, or H or W no multiple of 16.
        """
        check_videos(videos)
        lengths = chunk_lengths(videos.shape[2], at_once, FRAMES_PER_LATENT)
        stream = Stream(chunks=len(lengths) > 1)
        features = []
        for chunk in videos.split(lengths, 2):
            features.append(self.encoder(chunk, stream))
            stream.is_first = False
        moments = F.pixel_unshuffle(torch.cat(features, 2).transpose(1, 2), PATCH).transpose(1, 2)
        mean, log_variance = moments.chunk(2, 1)
        return mean, log_variance.clamp(LEAST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)

    @torch.no_grad()
    def encode_latents(
        self, videos: Tensor, noise: Tensor | None = None, at_once: int | None = ENCODED_AT_ONCE
    ) -> Tensor:
        """Encode videos. (B, 3, T, H, W) in [-1, 1] -> (B, D, N, h, w) float32, in full float32.

        Args:
            noise: standard normal noise (B, D, N, h, w), which the official code adds; None takes the mean.
            at_once: see `moments`. The result does not depend on it.

        Raises:
            InputError: see `moments`; or the encoder's values are not finite.
        """
        with torch.autocast(videos.device.type, enabled=False), tf32(False):
            mean, log_variance = self.moments(videos, at_once)
            z = mean if noise is None else mean + (log_variance / 2).exp() * noise
            latents = self.proj_down(z.movedim(1, -1)).movedim(-1, 1) * self.scale
        if not latents.isfinite().all():
            raise InputError("the encoder's values are not finite: damaged weights or videos")
        return latents

    @torch.no_grad()
    def decode_latents(self, latents: Tensor, at_once: int | None = DECODED_AT_ONCE) -> Tensor:
        """Decode latents. (B, D, N, h, w) -> (B, 3, T, H, W), not clamped."""
        return torch.cat(list(self.decode_chunks(latents, at_once)), 2)

    @torch.no_grad()
    def decode_chunks(self, latents: Tensor, at_once: int | None = DECODED_AT_ONCE) -> Iterator[Tensor]:
        """Decode latents, and yield frames as they are decoded. The memory does not depend on N.

        Args:
            latents: (B, D, N, h, w).
            at_once: latent frames of a chunk; None decodes all in one pass. The result does not depend on it.
        """
        lengths = chunk_lengths(latents.shape[2], at_once)
        stream = self.decoding_stream(len(lengths) > 1)
        yield from map(stream.frames, latents.split(lengths, 2))

    def decoding_stream(self, several: bool = True) -> DecodingStream:
        """Return a `DecodingStream` of a video."""
        return DecodingStream(self, several)

    def fingerprint(self) -> str:
        """Return a hash of the weights: a transformer fits only the tokenizer that it was trained with."""
        return tensors_fingerprint(self.state_dict().values())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> VideoTokenizer:
        """Load from a folder of `save_pretrained`."""
        return load_module(folder, VideoTokenizerConfig, cls)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        save_module(folder, self.config, self)


class DecodingStream:
    """Decodes a video part by part, as its latents become known, with the results of `VideoTokenizer.decode_latents`.

    Args:
        several: whether more than one part comes, so that the end of each has to be kept.
    """

    def __init__(self, tokenizer: VideoTokenizer, several: bool = True):
        self._tokenizer, self._stream = tokenizer, Stream(chunks=several)

    def decode(self, latents: Tensor, at_once: int = DECODED_AT_ONCE) -> Iterator[Tensor]:
        """Decode the next latents, ``at_once`` at a time. (B, D, n, h, w) -> frames (B, 3, T, H, W) in [-1, 1]."""
        for part in latents.split(at_once, 2):
            yield clip_pixels(self.frames(part.to(self._tokenizer.scale.dtype)))

    @torch.no_grad()
    def frames(self, latents: Tensor) -> Tensor:
        """Decode the next latents. (B, D, n, h, w) -> (B, 3, 4 n, H, W), or 4 n - 3 frames the first time.

        The result is not clamped.
        """
        tokenizer = self._tokenizer
        z = tokenizer.proj_up((latents / tokenizer.scale).movedim(1, -1)).movedim(-1, 1)
        frames = tokenizer.decoder(F.pixel_shuffle(z.transpose(1, 2), PATCH).transpose(1, 2), self._stream)
        self._stream.is_first = False
        return frames


def clip_pixels(decoded: Tensor) -> Tensor:
    """Clamp decoded frames to [-1, 1]. Values that are not finite become NaN, because clamping would hide infinity."""
    return decoded.float().masked_fill(~decoded.isfinite(), torch.nan).clamp(-1, 1)


def chunk_lengths(count: int, at_once: int | None, multiple: int = 1) -> list[int]:
    """Return the lengths of chunks: one frame first, then ``at_once``, and the rest. One chunk if that is None.

    Raises:
        InputError: ``at_once`` is no positive multiple of ``multiple``.
    """
    if at_once is None:
        return [count]
    if at_once < 1 or at_once % multiple:
        raise InputError(f"chunks have a multiple of {multiple} frames, not {at_once}")
    rest = count - 1
    return [1, *(min(at_once, rest - start) for start in range(0, rest, at_once))]


def check_videos(videos: Tensor) -> None:
    """Raise InputError unless the shape is (B, 3, T, H, W) with T = 1 mod 4, and H and W multiples of 16."""
    if videos.ndim != 5 or videos.shape[1] != 3:
        raise InputError(f"videos have the shape (B, 3, T, H, W), not {tuple(videos.shape)}")
    _, _, t, h, w = videos.shape
    if t % FRAMES_PER_LATENT != 1:
        raise InputError(f"a video has 1, 5, 9, ... frames, not {t}")
    if h % UNIT or w % UNIT:
        raise InputError(f"height and width of a video are multiples of {UNIT}, not {h} x {w}")
