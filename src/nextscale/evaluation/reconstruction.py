"""What a tokenizer keeps of images, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ScaleFigures(NamedTuple):
    """Of a scale.

    Attributes:
        size: (h, w) of its token map.
        psnr: mean, in dB, of images decoded after this scale.
        usage: share of the codes that occur at it.
        perplexity: exp(entropy) of the codes' frequencies.
    """

    size: tuple[int, int]
    psnr: float
    usage: float
    perplexity: float


@dataclass(frozen=True)
class Reconstruction:
    """
    Attributes:
        psnr: mean over the images, in dB.
        ssim: mean over the images.
        lpips: likewise; None without weights for it.
        codes: V, the size of the codebook.
        unused: how many of its codes occur at no scale.
        bits_per_pixel: L log2 V / (H W), the size of the tokens as they are.
        scales: each by itself.
    """

    psnr: float
    ssim: float
    lpips: float | None
    codes: int
    unused: int
    bits_per_pixel: float
    scales: tuple[ScaleFigures, ...]

    def lines(self) -> list[str]:
        """For a table."""
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
