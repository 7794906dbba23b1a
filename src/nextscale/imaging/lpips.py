"""LPIPS: the perceptual distance of two images, from features of a VGG16 (arXiv 1801.03924, version 0.1)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.module_folder import fill
from nextscale.io.state_files import expect, read_state

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of VGG16 at each resolution (arXiv 1409.1556, configuration D)."""
SMALLEST = 2 ** (len(STAGES) - 1)
"""Smallest side of an image in pixels: the last stage is then 1 pixel wide."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and standard deviation of red, green and blue, for images in [-1, 1]."""
LINEAR = {f"lin{i}.model.1.weight": f"linear.{i}" for i in range(len(STAGES))}
"""Names of the linear layers: in the official file -> in `LPIPS`."""


class LPIPS(nn.Module):
    """d(x, y) = sum over l of mean over positions of w_l . (f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)|)^2.

    f_l are the features after the last ReLU of each stage l of VGG16 (relu1_2, relu2_2, relu3_3, relu4_3, relu5_3),
    normalised to length 1 at each position, and w_l >= 0 are the weights of the channels. The weights have no
    gradient; the images do.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16()
        self.linear = nn.ParameterList(torch.rand(1, channels, 1, 1) / channels for channels, _ in STAGES)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] twice -> (B,), at least 0.

        Raises:
            InputError: images of different shapes, without 3 channels, or with a side below 16 pixels.
        """
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < SMALLEST:
            raise InputError(
                f"LPIPS compares two images of shape (B, 3, H, W) with sides of at least {SMALLEST} pixels, "
                f"not {tuple(x.shape)} with {tuple(y.shape)}"
            )
        maps = zip(self.linear, self.unit_features(x), self.unit_features(y), strict=True)
        return torch.stack([(w * (f - g).square()).sum(1).mean((1, 2)) for w, f, g in maps]).sum(0)

    def unit_features(self, images: Tensor) -> list[Tensor]:
        """Return f_l / |f_l|: five maps (B, C_l, H / 2^l, W / 2^l), in float32."""
        x, maps = (images - self.shift) / self.scale, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [F.normalize(features.float(), dim=1, eps=1e-10) for features in (*maps, x)]


def vgg16() -> nn.Sequential:
    """Build the convolutions of VGG16 up to relu5_3, each with its ReLU, numbered as in torchvision."""
    layers: list[nn.Module] = []
    before = 3
    for channels, convolutions in STAGES:
        if layers:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, channels, kernel_size=3, padding=1), nn.ReLU()]
            before = channels
    return nn.Sequential(*layers)


def load_lpips(vgg: Path, linear: Path | None = None) -> LPIPS:
    """Load LPIPS from ``.pth`` or ``.safetensors`` files.

    Args:
        vgg: VGG16 with torchvision's names, ``features.0.weight`` and so on; its classifier is skipped.
        linear: the linear layers with the official names, ``lin0.model.1.weight`` and so on (LPIPS's ``vgg.pth``);
            None if they are in the same file.

    Raises:
        InputError: a missing or damaged file, or one with other tensors.
    """
    linear = linear or vgg
    state = read_state(vgg)
    expect(state, ["features.0.weight"], vgg, "VGG16 as torchvision names it")
    weights = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
    state = read_state(linear)
    expect(state, LINEAR, linear, "the linear layers of LPIPS for VGG16")
    weights |= {ours: state[theirs] for theirs, ours in LINEAR.items()}
    return fill(LPIPS(), weights, vgg if linear == vgg else f"{vgg} with {linear}")
