"""The vision transformer (arXiv 2010.11929) of DINO (arXiv 2104.14294).

Modules have the names of DINO's files.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.config import check_fields

NORM_EPS = 1e-6


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer. The defaults are those of DINO's ViT-S/16 (21.67 M parameters)."""

    patch: int = 16
    """Pixels per side of a patch."""
    grid: int = 14
    """Patches per side of the training images."""
    width: int = 384
    """C."""
    depth: int = 12
    heads: int = 6
    mlp_ratio: int = 4
    """Hidden width of the MLPs, in units of C."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % self.heads:
            raise InputError(f"width must be a multiple of the {self.heads} heads, not {self.width}")


class Attention(nn.Module):
    """Compute proj(softmax(q k^T / sqrt(d)) v) with heads of dimension d. (B, n, C) -> (B, n, C)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Compute x += attn(norm1(x)); x += fc2(gelu(fc1(norm2(x)))) with the exact GELU. (B, n, C) -> (B, n, C)."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, hidden), gelu=nn.GELU(), fc2=nn.Linear(hidden, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Encode normalised images as tokens. (B, 3, H, W) -> (B, 1 + h w, C) for h x w patches, class token first."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        c = config
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, c.width).normal_(std=0.02))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + c.grid**2, c.width).normal_(std=0.02))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, c.width, kernel_size=c.patch, stride=c.patch)))
        self.blocks = nn.ModuleList(Block(c.width, c.heads, c.mlp_ratio * c.width) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=NORM_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the last block after layer norm."""
        return self.norm(self.layers(images)[-1])

    def layers(self, images: Tensor) -> list[Tensor]:
        """Return the input of the first block and the output of each block: depth + 1 tensors (B, 1 + h w, C).

        Raises:
            InputError: a side of the images is not a multiple of the patch size.
        """
        if any(side % self.config.patch for side in images.shape[-2:]):
            raise InputError(
                f"the vision transformer expects image sides that are multiples of {self.config.patch} pixels, "
                f"got images of shape {tuple(images.shape)}"
            )
        patches = self.patch_embed(images)
        tokens = torch.cat((self.cls_token.expand(len(images), -1, -1), patches.flatten(2).mT), dim=1)
        layers = [tokens + self.positions(*patches.shape[-2:])]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        return layers

    def positions(self, h: int, w: int) -> Tensor:
        """Return the position embedding, resized bicubically to h x w patches: (1, 1 + h w, C)."""
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid = F.interpolate(grid.mT.unflatten(2, (self.config.grid, -1)), size=(h, w), mode="bicubic")
        return torch.cat((first, grid.flatten(2).mT), dim=1)
