"""The reconstructions of a tokenizer as a gallery, with measurements of each image and their means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nextscale.acceleration.decoding import without_gradients
from nextscale.evaluation.gallery import Gallery, ImageBatch
from nextscale.evaluation.reconstruction import BitFigures, BitReconstruction, Reconstruction, ScaleFigures
from nextscale.imaging.images import to_pixels, to_unit_range
from nextscale.imaging.lpips import LPIPS
from nextscale.imaging.psnr_ssim import psnr, ssim
from nextscale.runtime.device import precision
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.usage import BitUsage, CodeUsage

PSNR_NOTE, SSIM_NOTE, LPIPS_NOTE, TOKENS_NOTE = "psnr", "ssim", "lpips", "tokens"


class ReconstructedImages:
    """The images of a gallery, encoded and decoded by a tokenizer.

    The notes of each image are its PSNR after each scale (K,), SSIM, LPIPS if the network is given, and tokens: codes
    (L,) or bits (L, D).

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
        self.stored = torch.uint8 if tokenizer.config.quantizer == "bits" else torch.int32
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
                TOKENS_NOTE: torch.cat(tokens, dim=1).to(self.stored),
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
    schedule, config = tokenizer.schedule, tokenizer.config
    if config.quantizer == "bits":
        usage: CodeUsage | BitUsage = BitUsage(schedule.num_scales, config.token_dim)
    else:
        usage = CodeUsage(schedule, config.codebook_size)
    count = 0
    sums: dict[str, Tensor] = {}
    for shard in shards:
        usage.add([shard[TOKENS_NOTE][:, part].long() for part in schedule.slices])
        for name in (PSNR_NOTE, SSIM_NOTE, LPIPS_NOTE):
            if name in shard:
                sums[name] = sums.get(name, torch.zeros(1)) + shard[name].double().sum(0)
        count += len(shard[TOKENS_NOTE])
    means = {name: (total / count).flatten().tolist() for name, total in sums.items()}
    lpips = means[LPIPS_NOTE][0] if LPIPS_NOTE in means else None
    quality = (means[PSNR_NOTE][-1], means[SSIM_NOTE][0], lpips)
    scales = tuple(zip(schedule.sizes, means[PSNR_NOTE], *usage.figures().values(), strict=True))
    h, w = config.image_size
    if isinstance(usage, BitUsage):
        of_bits = tuple(BitFigures(*scale) for scale in scales)
        return BitReconstruction(
            *quality, 2, usage.stuck(), schedule.num_tokens * usage.dim / (h * w), of_bits, usage.dim
        )
    per_pixel = schedule.num_tokens * math.log2(config.codebook_size) / (h * w)
    of_codes = tuple(ScaleFigures(*scale) for scale in scales)
    return Reconstruction(*quality, config.codebook_size, usage.unused(), per_pixel, of_codes)
