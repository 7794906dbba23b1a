"""Metrics of a tokenizer's reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class BitFigures(NamedTuple):
    """Metrics of one scale of a bitwise tokenizer.

    Attributes:
        size: (h, w) of its token map.
        psnr: mean over the images, in dB, decoded after this scale.
        ones: mean share of ones among its bits.
        entropy: mean entropy of a bit, in bits.
    """

    size: tuple[int, int]
    psnr: float
    ones: float
    entropy: float


class ScaleFigures(NamedTuple):
    """Metrics of one scale.

    Attributes:
        size: (h, w) of its token map.
        psnr: mean over the images, in dB, decoded after this scale.
        usage: fraction of the codes that occur at this scale.
        perplexity: exp(entropy) of the code frequencies.
    """

    size: tuple[int, int]
    psnr: float
    usage: float
    perplexity: float


@dataclass(frozen=True)
class Reconstruction:
    """Metrics of all reconstructed images.

    Attributes:
        psnr: mean over the images, in dB.
        ssim: mean over the images.
        lpips: mean over the images; None without LPIPS weights.
        codes: V, the size of the codebook; 2 for bits.
        unused: number of codes that occur at no scale, or of bits that nearly always have the same value.
        bits_per_pixel: the size of the uncompressed tokens, L log2 V / (H W), or L D / (H W) for D bits.
        scales: `ScaleFigures` of each scale, or `BitFigures` for bits.
    """

    psnr: float
    ssim: float
    lpips: float | None
    codes: int
    unused: int
    bits_per_pixel: float
    scales: tuple[Any, ...]

    def lines(self) -> list[str]:
        """Return the lines of a table."""
        return self._table("unused codes", self.codes, ("usage", "perplexity"), digits=1)

    def _table(self, unused: str, of: int, names: tuple[str, str], digits: int) -> list[str]:
        rows = [
            f"  {'x'.join(map(str, size)):>8} {psnr:>8.2f} {first:>8.3f} {second:>11.{digits}f}"
            for size, psnr, first, second in self.scales
        ]
        return [
            f"  {'bits per pixel':<16} {self.bits_per_pixel:.4f}",
            f"  {unused:<16} {self.unused} of {of}",
            f"  {'scale':>8} {'PSNR':>8} {names[0]:>8} {names[1]:>11}",
            *rows,
        ]


@dataclass(frozen=True)
class BitReconstruction(Reconstruction):
    """Metrics of all images that a bitwise tokenizer reconstructs.

    Attributes:
        bits: D, the number of bits of a token.
    """

    bits: int

    def lines(self) -> list[str]:
        """Return the lines of a table."""
        return self._table("stuck bits", self.bits, ("ones", "bit entropy"), digits=3)
