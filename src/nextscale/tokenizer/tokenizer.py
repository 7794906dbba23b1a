"""The image tokenizer: encoder, residual pyramid and decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nextscale.errors import InputError, brief
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, LATER, as_config, check_fields
from nextscale.io.fingerprint import tensors_fingerprint
from nextscale.io.module_folder import load_module, save_module
from nextscale.runtime.device import tf32
from nextscale.scales.schedule import MOST_SCALES, OFFICIAL_256, ScaleSchedule
from nextscale.tokenizer.autoencoder import NORM_GROUPS, OTHER_GROUPS, Decoder, Encoder
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.codebook import Codebook
from nextscale.tokenizer.pyramid import INFINITY_MOVES, ResidualPyramid

if TYPE_CHECKING:
    from nextscale.tokenizer.bit_quantization import BitQuantization

LARGEST_IMAGE = 2**14
"""Most pixels on a side of an image."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a multi-scale residual autoencoder. The defaults are VAR's for 256 pixels (109 M weights).

    `infinity` gives the sizes of Infinity's tokenizers.
    """

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
    quantizer: Literal["codebook", "bits"] = field(default="codebook", metadata=LATER)
    """codebook: a token is the index of a code (VAR). bits: a token is the signs of its channels (Infinity). The four
    fields about codes and phi then have no effect, and there are no convolutions before and after quantization."""
    attention: bool = field(default=True, metadata=LATER)
    """Add self-attention at the last level of the autoencoder; VAR has it, Infinity does not."""
    patchify: bool = field(default=False, metadata=LATER)
    """Let a token cover 2 x 2 positions of the feature grid, with 4 D bits (Infinity 8B)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_config(ScaleSchedule, self.schedule))
        if isinstance(self.multipliers, list):  # JSON
            object.__setattr__(self, "multipliers", tuple(self.multipliers))
        check_fields(self)
        if self.channels % NORM_GROUPS and self.channels % OTHER_GROUPS:
            raise InputError(f"channels must be a multiple of {NORM_GROUPS} or {OTHER_GROUPS}, not {self.channels}")
        if max(self.image_size) > LARGEST_IMAGE:
            h, w = self.image_size
            raise InputError(f"images may have at most {LARGEST_IMAGE:,} pixels on a side, not {h:,} x {w:,}")
        if self.quantizer not in ("codebook", "bits"):
            raise InputError(f"quantizer must be codebook or bits, not {brief(self.quantizer)}")
        if self.patchify and self.quantizer == "codebook":
            raise InputError("patchify needs quantizer bits, not codebook")

    @classmethod
    def infinity(
        cls, code_dim: int = 32, patchify: bool = False, schedule: ScaleSchedule | None = None, **fields: Any
    ) -> TokenizerConfig:
        """Return the sizes of an official Infinity tokenizer of ``code_dim`` channels.

        Args:
            patchify: whether it is the one of stride 8 whose tokens cover 2 x 2 positions, else stride 16.
            schedule: None means the square schedule for 1024 pixels. Encoding and decoding take other ones.
        """
        sizes = {"channels": 128, "multipliers": (1, 2, 4, 4) if patchify else (1, 2, 4, 4, 4)}
        bits = {"quantizer": "bits", "attention": False, "code_dim": code_dim, "patchify": patchify}
        return cls(schedule=schedule or ScaleSchedule.infinity(), **{**sizes, **bits, **fields})

    @property
    def token_dim(self) -> int:
        """Number of entries of a token's code vector: D, or 4 D with patchify."""
        return self.code_dim * (4 if self.patchify else 1)

    @property
    def downsampling(self) -> int:
        """Pixels per side of one token of the last scale."""
        return self.stride * (2 if self.patchify else 1)

    @property
    def stride(self) -> int:
        """Pixels per side of one position of the feature grid."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.image_size_of(self.schedule)

    def image_size_of(self, schedule: ScaleSchedule) -> tuple[int, int]:
        """Return (H, W) of the images of a schedule."""
        h, w = schedule.final_size
        return h * self.downsampling, w * self.downsampling

    def full_size_numbers(self, schedule: ScaleSchedule | None = None) -> int:
        """Return how many numbers an activation of one image at full size has; None means the tokenizer's schedule."""
        height, width = self.image_size_of(schedule or self.schedule)
        return self.channels * height * width


class Reconstruction(NamedTuple):
    """The result of a training pass through the tokenizer."""

    images: Tensor
    """(B, 3, H, W), decoded, not clamped."""
    tokens: list[Tensor]
    """K LongTensors (B, n_k), or bool tensors (B, n_k, D) of bits."""
    vq_loss: Tensor
    """The quantizer's loss, a scalar."""
    looks: Tensor | None
    """All quantized vectors, (B L, D), without gradient. None for bits."""
    figures: Mapping[str, Tensor] = {}
    """Scalars to log."""


class ImageTokenizer(nn.Module):
    """Autoencoder that encodes images (B, 3, H, W) in [-1, 1] as K token maps, and decodes them.

    With a codebook, a token map is a LongTensor (B, n_k) of code indices. With bits, it is a bool tensor (B, n_k, D_t).
    A bitwise tokenizer encodes and decodes images of any size; ``schedule`` then names the scales.
    """

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        c = config
        self.config = config
        self.encoder = Encoder(c.channels, c.multipliers, c.num_blocks, c.code_dim, c.attention)
        self.quant_conv: nn.Module = nn.Identity()
        self.post_quant_conv: nn.Module = nn.Identity()
        if c.quantizer == "bits":
            moves = replace(INFINITY_MOVES, patch=2 if c.patchify else 1)
            self.pyramid = ResidualPyramid(c.schedule, SignBits(c.code_dim, moves.patch), 0.0, moves=moves)
        else:
            codebook = Codebook(c.codebook_size, c.code_dim, cosine=c.znorm)
            self.quant_conv = nn.Conv2d(c.code_dim, c.code_dim, kernel_size=3, padding=1)
            self.pyramid = ResidualPyramid(c.schedule, codebook, c.quant_resi, c.num_phi)
            self.post_quant_conv = nn.Conv2d(c.code_dim, c.code_dim, kernel_size=3, padding=1)
        self.decoder = Decoder(c.channels, c.multipliers, c.num_blocks, c.code_dim, c.attention)
        if self.decoder.conv_in.weight.device.type != "meta":
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
        if isinstance(codebook := self.pyramid.codebook, Codebook):
            nn.init.uniform_(codebook.weight, -1 / codebook.size, 1 / codebook.size, generator=generator)
        return self

    @property
    def schedule(self) -> ScaleSchedule:
        return self.config.schedule

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode_features(self, images: Tensor, schedule: ScaleSchedule | None = None) -> Tensor:
        """Encode images without quantizing them. (B, 3, H, W) in [-1, 1] -> (B, D, h, w).

        Raises:
            InputError: see `check_images`.
        """
        self.check_images(images, schedule)
        return self.quant_conv(self.encoder(images))

    @torch.no_grad()
    def encode(self, images: Tensor, schedule: ScaleSchedule | None = None) -> list[Tensor]:
        """Encode images as tokens. (B, 3, H, W) in [-1, 1] -> K token maps, (B, n_k) int64 or (B, n_k, D_t) bool.

        Encoding always uses full float32, regardless of autocast and TF32, because lower precision changes tokens.

        Args:
            schedule: sizes of the token maps; None means the tokenizer's own. Only a bitwise tokenizer takes others.

        Raises:
            InputError: the images have another size, or the encoder's values are not finite.
        """
        with torch.autocast(images.device.type, enabled=False), tf32(False):
            features = self.encode_features(images, schedule)
            if not features.isfinite().all():
                raise InputError("the encoder's values are not finite: damaged weights or images")
            return self.pyramid.encode(features, schedule)

    @torch.no_grad()
    def decode(self, tokens: Sequence[Tensor], schedule: ScaleSchedule | None = None) -> Tensor:
        """Decode the token maps of `encode`. -> (B, 3, H, W) in [-1, 1]."""
        return self.decode_canvas(self.pyramid.canvas(self.check_tokens(tokens, schedule), schedule))

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        """Decode a canvas after any scale. (B, D, h_K, w_K) -> (B, 3, H, W) in [-1, 1], or NaN for infinite values."""
        return self._decode(canvas)

    def _decode(self, canvas: Tensor) -> Tensor:
        weight = self.decoder.conv_in.weight
        decoded = self.decode_features(self.post_quant_conv(canvas.to(weight.dtype))).float()
        return decoded.masked_fill(~decoded.isfinite(), torch.nan).clamp(-1, 1)  # clamping would hide infinity

    def decode_features(self, features: Tensor) -> Tensor:
        """Apply the decoder. (B, D, h, w) -> (B, 3, H, W)."""
        return self.decoder(features)

    @torch.no_grad()
    def teacher_forcing_input(self, tokens: Sequence[Tensor], schedule: ScaleSchedule | None = None) -> Tensor:
        """Return the transformer's input in training. K token maps -> (B, L - n_0, D) float32."""
        return self.pyramid.next_inputs(self.check_tokens(tokens, schedule), schedule)

    def forward(
        self, images: Tensor, beta: float = 0.25, depths: Tensor | None = None, bits: BitQuantization | None = None
    ) -> Reconstruction:
        """Encode, quantize with a straight-through gradient, and decode, for training.

        Args:
            beta: weight of the commitment term.
            depths: (B,) in 1..K, the number of scales from which each image is decoded; None means all.
            bits: how a bitwise tokenizer quantizes; None means all scales of the schedule, without entropy losses.

        Raises:
            InputError: see `check_images`. With ``bits``, the size is that of its last scale.
        """
        if self.config.quantizer == "codebook":
            found = self.pyramid.quantize(self.encode_features(images).float(), beta, depths)
            return Reconstruction(self._decoded(found.canvas), found.tokens, found.loss, found.looks)
        from nextscale.tokenizer.bit_quantization import BitQuantization, quantize_bits

        bits = bits or BitQuantization(self.pyramid.flat_schedule())
        h, w = bits.schedule.final_size
        self._check_size(images, (h * self.config.stride, w * self.config.stride))
        found = quantize_bits(self.encoder(images).float(), bits, beta, depths)
        return Reconstruction(self._decoded(found.canvas), found.tokens, found.loss, None, found.figures)

    def _decoded(self, canvas: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(canvas)).float()

    def fingerprint(self) -> str:
        """Return a hash of the weights: a transformer fits only the tokenizer that it was trained with."""
        return tensors_fingerprint(self.state_dict().values())

    def schedule_or_own(self, schedule: ScaleSchedule | None) -> ScaleSchedule:
        """Return a schedule, or the tokenizer's own for None.

        Raises:
            InputError: the tokenizer has a codebook and the schedule is not its own.
        """
        if schedule is None or schedule == self.schedule:
            return self.schedule
        if self.config.quantizer == "codebook":
            raise InputError(f"this tokenizer takes only its own scales, {self.schedule}, not {schedule}")
        return schedule

    def check_images(self, images: Tensor, schedule: ScaleSchedule | None = None) -> None:
        """Check the shape of images.

        Raises:
            InputError: the size differs from that of the schedule's last scale.
        """
        self._check_size(images, self.config.image_size_of(self.schedule_or_own(schedule)))

    def _check_size(self, images: Tensor, size: tuple[int, int]) -> None:
        expected = (3, *size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise InputError(
                f"the tokenizer takes images of shape (B, {', '.join(map(str, expected))}), not {tuple(images.shape)}"
            )

    def check_tokens(
        self, tokens: Sequence[Tensor], schedule: ScaleSchedule | None = None, partial: bool = False
    ) -> Sequence[Tensor]:
        """Return the tokens unchanged if they fit the schedule and the codebook.

        Args:
            partial: allow the tokens of the first scales alone.

        Raises:
            InputError: the number of scales or a shape differs, or an index lies outside the codebook.
        """
        expected = self.schedule_or_own(schedule).tokens_per_scale
        expected = expected[: len(tokens)] if partial else expected
        if len(tokens) != len(expected):
            raise InputError(f"expected tokens of {len(expected)} scales, got {len(tokens)}")
        for k, (t, n) in enumerate(zip(tokens, expected, strict=True)):
            if self.config.quantizer == "bits":
                shape = (len(tokens[0]), n, self.config.token_dim)
                if t.dtype != torch.bool or tuple(t.shape) != shape:
                    raise InputError(f"expected bits of scale {k} as bool {shape}, got {t.dtype} {tuple(t.shape)}")
                continue
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
