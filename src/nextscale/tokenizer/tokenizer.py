"""The image tokenizer: encoder, residual pyramid and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, as_config, check_fields
from nextscale.io.fingerprint import tensors_fingerprint
from nextscale.io.module_folder import load_module, save_module
from nextscale.runtime.device import tf32
from nextscale.scales.schedule import MOST_SCALES, OFFICIAL_256, ScaleSchedule
from nextscale.tokenizer.autoencoder import NORM_GROUPS, Decoder, Encoder
from nextscale.tokenizer.codebook import Codebook
from nextscale.tokenizer.pyramid import ResidualPyramid

LARGEST_IMAGE = 2**14
"""Most pixels on a side of an image."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a multi-scale residual VQ-VAE. The defaults are the official sizes for 256 pixels (109 M weights)."""

    schedule: ScaleSchedule = OFFICIAL_256
    channels: int = field(default=160, metadata={"most": LARGEST_WIDTH})
    """Width of the autoencoder at full resolution; a multiple of 32."""
    multipliers: tuple[int, ...] = field(default=(1, 1, 2, 2, 4), metadata={"most": 1024, "longest": 12})
    """Width of each level, in units of ``channels``. n levels downsample 2^(n-1) times."""
    num_blocks: int = field(default=2, metadata={"most": 1024})
    """Residual blocks per level of the encoder; the decoder has one more."""
    code_dim: int = field(default=32, metadata={"most": LARGEST_WIDTH})
    """D."""
    codebook_size: int = field(default=4096, metadata={"most": LARGEST_TABLE})
    """V."""
    quant_resi: float = 0.5
    """Weight of the phi convolutions; 0 removes them."""
    num_phi: int = field(default=4, metadata={"least": 0, "most": MOST_SCALES})
    """Number of phi convolutions that the scales share; 0 means one for each scale."""
    znorm: bool = False
    """Choose the nearest code by cosine similarity instead of Euclidean distance."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_config(ScaleSchedule, self.schedule))
        if isinstance(self.multipliers, list):  # JSON
            object.__setattr__(self, "multipliers", tuple(self.multipliers))
        check_fields(self)
        if self.channels % NORM_GROUPS:
            raise InputError(f"channels must be a multiple of {NORM_GROUPS}, not {self.channels}")
        if max(self.image_size) > LARGEST_IMAGE:
            h, w = self.image_size
            raise InputError(f"images may have at most {LARGEST_IMAGE:,} pixels on a side, not {h:,} x {w:,}")

    @property
    def downsampling(self) -> int:
        """Pixels per side of one token of the last scale."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        h, w = self.schedule.final_size
        return h * self.downsampling, w * self.downsampling


class Reconstruction(NamedTuple):
    """The result of a training pass through the tokenizer."""

    images: Tensor
    """(B, 3, H, W), decoded, not clamped."""
    tokens: list[Tensor]
    """K LongTensors (B, n_k)."""
    vq_loss: Tensor
    """The quantizer's loss, a scalar."""
    looks: Tensor
    """All quantized vectors, (B L, D), without gradient."""


class ImageTokenizer(nn.Module):
    """Multi-scale VQ-VAE that encodes images (B, 3, H, W) in [-1, 1] as K token maps (B, n_k), and decodes them."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        c = config
        self.config = config
        self.encoder = Encoder(c.channels, c.multipliers, c.num_blocks, c.code_dim)
        self.quant_conv = nn.Conv2d(c.code_dim, c.code_dim, kernel_size=3, padding=1)
        codebook = Codebook(c.codebook_size, c.code_dim, cosine=c.znorm)
        self.pyramid = ResidualPyramid(c.schedule, codebook, c.quant_resi, c.num_phi)
        self.post_quant_conv = nn.Conv2d(c.code_dim, c.code_dim, kernel_size=3, padding=1)
        self.decoder = Decoder(c.channels, c.multipliers, c.num_blocks, c.code_dim)
        if self.post_quant_conv.weight.device.type != "meta":
            self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> ImageTokenizer:
        """Initialize the weights: convolutions normal with std sqrt(1 / fan in), biases 0, codes uniform in +-1/V.

        Args:
            generator: random generator; None uses PyTorch's global one.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        size = self.config.codebook_size
        nn.init.uniform_(self.pyramid.codebook.weight, -1 / size, 1 / size, generator=generator)
        return self

    @property
    def schedule(self) -> ScaleSchedule:
        return self.config.schedule

    def encode_features(self, images: Tensor) -> Tensor:
        """Encode images without quantizing them. (B, 3, H, W) in [-1, 1] -> (B, D, h, w).

        Raises:
            InputError: see `check_images`.
        """
        self.check_images(images)
        return self.quant_conv(self.encoder(images))

    @torch.no_grad()
    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode images as tokens. (B, 3, H, W) in [-1, 1] -> K LongTensors (B, n_k).

        Encoding always uses full float32, regardless of autocast and TF32, because lower precision changes tokens.

        Raises:
            InputError: the images have another size, or the encoder's values are not finite.
        """
        with torch.autocast(images.device.type, enabled=False), tf32(False):
            features = self.encode_features(images)
            if not features.isfinite().all():
                raise InputError("the encoder's values are not finite: damaged weights or images")
            return self.pyramid.encode(features)

    @torch.no_grad()
    def decode(self, tokens: Sequence[Tensor]) -> Tensor:
        """Decode tokens. K LongTensors (B, n_k) -> (B, 3, H, W) in [-1, 1]."""
        return self.decode_canvas(self.pyramid.canvas(self.check_tokens(tokens)))

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        """Decode a canvas after any scale. (B, D, h_K, w_K) -> (B, 3, H, W) in [-1, 1], or NaN for infinite values."""
        return self._decode(canvas)

    def _decode(self, canvas: Tensor) -> Tensor:
        weight = self.post_quant_conv.weight
        decoded = self.decoder(self.post_quant_conv(canvas.to(weight.dtype))).float()
        return decoded.masked_fill(~decoded.isfinite(), torch.nan).clamp(-1, 1)  # clamping would hide infinity

    @torch.no_grad()
    def teacher_forcing_input(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the transformer's input in training. K LongTensors (B, n_k) -> (B, L - n_0, D) float32."""
        return self.pyramid.next_inputs(self.check_tokens(tokens))

    def forward(self, images: Tensor, beta: float = 0.25, depths: Tensor | None = None) -> Reconstruction:
        """Encode, quantize with a straight-through gradient, and decode, for training.

        Args:
            beta: weight of the commitment term.
            depths: (B,) in 1..K, the number of scales from which each image is decoded; None means all.
        """
        quantized = self.pyramid.quantize(self.encode_features(images).float(), beta, depths)
        decoded = self.decoder(self.post_quant_conv(quantized.canvas)).float()
        return Reconstruction(decoded, quantized.tokens, quantized.loss, quantized.looks)

    def fingerprint(self) -> str:
        """Return a hash of the weights: a transformer fits only the tokenizer that it was trained with."""
        return tensors_fingerprint(self.state_dict().values())

    def check_images(self, images: Tensor) -> None:
        """Check the shape of images.

        Raises:
            InputError: the size differs from that of the schedule's last scale.
        """
        expected = (3, *self.config.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise InputError(
                f"the tokenizer takes images of shape (B, {', '.join(map(str, expected))}), not {tuple(images.shape)}"
            )

    def check_tokens(self, tokens: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tokens unchanged if they fit the schedule and the codebook.

        Raises:
            InputError: the number of scales or a shape differs, or an index lies outside the codebook.
        """
        expected = self.schedule.tokens_per_scale
        if len(tokens) != len(expected):
            raise InputError(f"expected tokens of {len(expected)} scales, got {len(tokens)}")
        for k, (t, n) in enumerate(zip(tokens, expected, strict=True)):
            if t.dtype not in (torch.int64, torch.int32):
                raise InputError(f"expected tokens of scale {k} as int64 or int32, got {t.dtype}")
            if t.ndim != 2 or tuple(t.shape) != (len(tokens[0]), n):
                raise InputError(f"expected tokens of scale {k} in shape ({len(tokens[0])}, {n}), got {tuple(t.shape)}")
            if len(t) and not 0 <= int(t.min()) <= int(t.max()) < self.config.codebook_size:
                raise InputError(
                    f"tokens of scale {k} lie in {int(t.min())}..{int(t.max())}, "
                    f"but the codebook has 0..{self.config.codebook_size - 1}"
                )
        return tokens

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ImageTokenizer:
        """Load from a folder of `save_pretrained` or of ``nextscale train tokenizer`` (its newest EMA weights)."""
        return load_module(folder, TokenizerConfig, cls)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        save_module(folder, self.config, self)
