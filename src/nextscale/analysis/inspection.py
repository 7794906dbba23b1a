"""Show the tokens of an image scale by scale: token map, contribution to the canvas, and decoded image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from nextscale.imaging.images import centre_crop, cover, to_pil, to_tensor
from nextscale.imaging.psnr_ssim import psnr
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer


@dataclass(frozen=True)
class ScaleView:
    """One scale of an image."""

    index: int
    """k."""
    tokens: Tensor
    """Its token map, (h_k, w_k); (h_k, w_k, D) for bits."""
    gain: Tensor
    """The norm of what the scale adds to the canvas at each position, (h_K, w_K)."""
    image: Image.Image
    """The decoded canvas after this scale."""
    psnr: float
    """PSNR of that image, in dB."""

    @property
    def size(self) -> tuple[int, int]:
        """(h_k, w_k)."""
        return self.tokens.shape[0], self.tokens.shape[1]


def fit(image: Image.Image, tokenizer: ImageTokenizer, schedule: ScaleSchedule | None = None) -> Image.Image:
    """Resize and crop an image to the size of a schedule; None means the tokenizer's.

    Raises:
        InputError: the image is too narrow.
    """
    size = tokenizer.config.image_size_of(tokenizer.schedule_or_own(schedule))
    return centre_crop(cover(image, size), size)


@torch.no_grad()
def inspect(image: Image.Image, tokenizer: ImageTokenizer, schedule: ScaleSchedule | None = None) -> list[ScaleView]:
    """Encode an image of any size, and decode it again after each scale.

    Args:
        schedule: None means the tokenizer's.
    """
    schedule = tokenizer.schedule_or_own(schedule)
    pixels = to_tensor(fit(image, tokenizer, schedule)).unsqueeze(0).to(tokenizer.device)
    tokens = tokenizer.encode(pixels, schedule)
    views: list[ScaleView] = []
    for step in tokenizer.pyramid.accumulate(tokens, schedule):
        decoded = tokenizer.decode_canvas(step.canvas)
        views.append(
            ScaleView(
                index=step.index,
                tokens=tokens[step.index][0].unflatten(0, schedule.sizes[step.index]).cpu(),
                gain=step.gain[0].norm(dim=0).cpu(),
                image=to_pil((decoded + 1) / 2)[0],
                psnr=psnr(decoded, pixels).item(),
            )
        )
    return views


@torch.no_grad()
def code_colours(tokenizer: ImageTokenizer) -> Tensor:
    """Return a colour for each code, (V, 3) uint8. Similar codes have similar colours.

    Red, green and blue are the ranks of a code along the three principal axes of the codebook.
    """
    codes = tokenizer.pyramid.codebook.weight.detach().double().cpu()
    axes = torch.linalg.svd(codes - codes.mean(dim=0), full_matrices=False).Vh[:3]
    axes = axes * axes.sum(dim=1, keepdim=True).sign()  # the sign of an axis is arbitrary
    ranks = (codes @ axes.T).argsort(dim=0).argsort(dim=0).double() / max(1, len(codes) - 1)
    colours = torch.full((len(codes), 3), 0.5, dtype=torch.double)
    colours[:, : ranks.shape[1]] = ranks
    return colours.mul(200).add(40).round().to(torch.uint8)


def bit_colours(dim: int) -> Tensor:
    """Return the axes for red, green and blue in the space of the D bits of a token, (D, 3). They are orthonormal, and
    the same for all models with D bits."""
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(dim, 3, generator=generator, dtype=torch.double)).Q


def token_colours(tokenizer: ImageTokenizer) -> Tensor:
    """Return what `token_image` needs: `code_colours`, or `bit_colours` for a bitwise tokenizer."""
    if tokenizer.config.quantizer == "bits":
        return bit_colours(tokenizer.config.token_dim)
    return code_colours(tokenizer)


def token_image(tokens: Tensor, colours: Tensor) -> Image.Image:
    """Return a token map as an image of h x w pixels. Similar tokens have similar colours.

    Args:
        tokens: (h, w), or bits (h, w, D).
        colours: those of the codes, (V, 3) uint8; or the axes of the bits, (D, 3). The signs of the bits, projected on
            the axes, have a standard deviation of 1 for random bits. The normal distribution maps them to 40 to 240.
    """
    if tokens.dtype != torch.bool:
        return Image.fromarray(colours[tokens].numpy())
    projected = torch.where(tokens, 1.0, -1.0).double() @ colours
    ranks = torch.special.ndtr(projected)
    return Image.fromarray(ranks.mul(200).add(40).round().to(torch.uint8).numpy())


def heat_images(maps: Sequence[Tensor]) -> list[Image.Image]:
    """Return maps (h, w) of numbers >= 0 as images, from white at 0 to dark at the largest number of all maps."""
    dark = torch.tensor((12.0, 74.0, 70.0))
    largest = max(float(values.max()) for values in maps) or 1.0
    shares = [(values / largest).unsqueeze(-1) for values in maps]
    return [Image.fromarray((255 + share * (dark - 255)).round().to(torch.uint8).numpy()) for share in shares]
