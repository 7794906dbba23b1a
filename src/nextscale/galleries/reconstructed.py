"""The reconstructions of a tokenizer as a gallery, with measurements of each image and their means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nextscale.acceleration.decoding import without_gradients
from nextscale.evaluation.gallery import Gallery, ImageBatch
from nextscale.evaluation.reconstruction import Reconstruction, ScaleFigures
from nextscale.imaging.images import to_pixels, to_unit_range
from nextscale.imaging.lpips import LPIPS
from nextscale.imaging.psnr_ssim import psnr, ssim
from nextscale.runtime.device import precision
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.usage import CodeUsage

PSNR_NOTE, SSIM_NOTE, LPIPS_NOTE, TOKENS_NOTE = "psnr", "ssim", "lpips", "tokens"


class ReconstructedImages:
    """The images of a gallery, encoded and decoded by a tokenizer.

    The notes of each image are its PSNR after each scale (K,), SSIM, LPIPS if the network is given, and tokens (L,).

    Args:
        originals: images of the tokenizer's size.
        dtype: precision of decoding. Encoding always uses float32.
        noted: make notes. If False, only the last scale is decoded.
    """

    def __init__(
        self,
        originals: Gallery,
        tokenizer: ImageTokenizer,
        lpips: LPIPS | None = None,
        dtype: str = "float32",
        noted: bool = True,
    ):
        self.originals, self.lpips, self.noted = originals, lpips, noted
        self.tokenizer = without_gradients(tokenizer)
        self.device = tokenizer.device
        self.dtype = dtype
        precision(dtype, self.device)
        self.name, self.size, self.class_names = originals.name, originals.size, originals.class_names
        self.made_from = {
            **originals.made_from,
            "tokenizer": tokenizer.fingerprint(),
            "lpips": lpips is not None,
            "dtype": dtype,
        }

    def __len__(self) -> int:
        return len(self.originals)

    @torch.no_grad()
    def read(self, indices: Sequence[int]) -> ImageBatch:
        originals = self.originals.read(indices)
        if not len(originals.pixels):
            return originals
        images = to_unit_range(originals.pixels.to(self.device))
        tokens = self.tokenizer.encode(images)
        psnrs, decoded, notes = [], images, {}
        for step in self.tokenizer.pyramid.accumulate(tokens):
            if self.noted or step.index == len(tokens) - 1:
                with precision(self.dtype, self.device):
                    decoded = self.tokenizer.decode_canvas(step.canvas)
                psnrs.append(psnr(decoded, images))
        if self.noted:
            notes = {
                PSNR_NOTE: torch.stack(psnrs, dim=1),
                SSIM_NOTE: ssim(decoded, images),
                TOKENS_NOTE: torch.cat(tokens, dim=1).int(),
            }
            if self.lpips is not None:
                notes[LPIPS_NOTE] = self.lpips(decoded, images)
        return ImageBatch(
            to_pixels((decoded + 1) / 2).cpu(),
            originals.indices,
            originals.labels,
            {name: note.cpu() for name, note in notes.items()},
        )


def fold_notes(shards: Iterable[Mapping[str, Tensor]], tokenizer: ImageTokenizer) -> Reconstruction:
    """Average the notes of all images, in float64."""
    schedule, codes = tokenizer.schedule, tokenizer.config.codebook_size
    usage, count = CodeUsage(schedule, codes), 0
    sums: dict[str, Tensor] = {}
    for shard in shards:
        usage.add([shard[TOKENS_NOTE][:, part].long() for part in schedule.slices])
        for name in (PSNR_NOTE, SSIM_NOTE, LPIPS_NOTE):
            if name in shard:
                sums[name] = sums.get(name, torch.zeros(1)) + shard[name].double().sum(0)
        count += len(shard[TOKENS_NOTE])
    means = {name: (total / count).flatten().tolist() for name, total in sums.items()}
    h, w = tokenizer.config.image_size
    scales = zip(schedule.sizes, means[PSNR_NOTE], usage.used().tolist(), usage.perplexity().tolist(), strict=True)
    return Reconstruction(
        psnr=means[PSNR_NOTE][-1],
        ssim=means[SSIM_NOTE][0],
        lpips=means[LPIPS_NOTE][0] if LPIPS_NOTE in means else None,
        codes=codes,
        unused=usage.unused(),
        bits_per_pixel=schedule.num_tokens * math.log2(codes) / (h * w),
        scales=tuple(ScaleFigures(*scale) for scale in scales),
    )
