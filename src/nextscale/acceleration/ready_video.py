"""Video tokenizers prepared for sampling, kept in memory or only while they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain

import torch
from torch import Tensor, nn

from nextscale.acceleration.on_demand import OnDemand
from nextscale.runtime.device import tf32
from nextscale.tokenizer.causal import Stream
from nextscale.tokenizer.video_autoencoder import VideoDecoder
from nextscale.tokenizer.video_tokenizer import DECODED_AT_ONCE, DecodingStream, VideoTokenizer

DECODING = ("decoder.", "proj_up.", "scale")
"""Beginnings of the names of what decodes."""


class PreciseDecoder(nn.Module):
    """A decoder that computes its convolutions in a given precision, and float32 without TF32."""

    def __init__(self, decoder: VideoDecoder, dtype: torch.dtype):
        super().__init__()
        self.decoder, self.dtype = decoder, dtype

    def forward(self, z: Tensor, stream: Stream) -> Tensor:
        """See `VideoDecoder`. -> float32."""
        autocast = nullcontext() if self.dtype == torch.float32 else torch.autocast(z.device.type, self.dtype)
        with autocast, tf32(False):
            return self.decoder(z, stream).float()


@torch.no_grad()
def ready_video_tokenizer(
    tokenizer: VideoTokenizer, dtype: torch.dtype, device: torch.device | None = None
) -> VideoTokenizer:
    """Return a tokenizer that decodes in the given precision and encodes in float32, with the same weights.

    On a CPU it decodes in float32, too: three-dimensional convolutions are not faster in lower precision there.

    Args:
        device: device that decodes; None means that of the tokenizer. The encoder is not moved.
    """
    with torch.device("meta"):
        ready = VideoTokenizer(tokenizer.config)
    tensors = {name: t.detach() for name, t in chain(tokenizer.named_parameters(), tokenizer.named_buffers())}
    moved = {
        name: t if device is None or not name.startswith(DECODING) else t.to(device) for name, t in tensors.items()
    }
    ready.load_state_dict(moved, assign=True)
    on_cpu = ready.scale.device.type == "cpu"
    ready.decoder = PreciseDecoder(ready.decoder, torch.float32 if on_cpu else dtype)  # type: ignore[assignment]
    return ready.requires_grad_(False).eval()


class OffloadedVideoTokenizer(VideoTokenizer):
    """A tokenizer whose decoder is prepared when it decodes. It encodes where its weights are.

    Args:
        source: the tokenizer with the weights.
        prepared: a copy of it that decodes on another device.
    """

    source: VideoTokenizer
    prepared: OnDemand[VideoTokenizer]

    def __init__(self, source: VideoTokenizer, prepared: OnDemand[VideoTokenizer]):
        nn.Module.__init__(self)
        self.config, self.pyramid = source.config, source.pyramid
        self.__dict__.update(source=source, prepared=prepared)  # not as parts, whose weights would be this module's

    def decoding_stream(self, several: bool = True) -> DecodingStream:
        return self.prepared.get().decoding_stream(several)

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        return self.prepared.get().decode_canvas(canvas)

    def decode_chunks(self, latents: Tensor, at_once: int | None = DECODED_AT_ONCE) -> Iterator[Tensor]:
        return self.prepared.get().decode_chunks(latents, at_once)

    def encode_latents(self, videos: Tensor, noise: Tensor | None = None, at_once: int | None = None) -> Tensor:
        device = self.source.scale.device
        noise = None if noise is None else noise.to(device)
        return self.source.encode_latents(videos.to(device), noise, *([] if at_once is None else [at_once]))
