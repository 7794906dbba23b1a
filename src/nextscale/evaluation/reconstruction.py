"""Metrics of a tokenizer's reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
        codes: V, the size of the codebook.
        unused: number of codes that occur at no scale.
        bits_per_pixel: L log2 V / (H W), the size of the uncompressed tokens.
        scales: metrics of each scale.
    """

    psnr: float
    ssim: float
    lpips: float | None
    codes: int
    unused: int
    bits_per_pixel: float
    scales: tuple[ScaleFigures, ...]

    def lines(self) -> list[str]:
        """Return the lines of a table."""
        rows = [
            f"  {'x'.join(map(str, scale.size)):>8} {scale.psnr:>8.2f} {scale.usage:>8.3f} {scale.perplexity:>11.1f}"
            for scale in self.scales
        ]
        return [
            f"  {'bits per pixel':<16} {self.bits_per_pixel:.4f}",
            f"  {'unused codes':<16} {self.unused} of {self.codes}",
            f"  {'scale':>8} {'PSNR':>8} {'usage':>8} {'perplexity':>11}",
            *rows,
        ]
