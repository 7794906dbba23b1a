"""Perceptual losses: the distance of two images in the features of a trained network.

A network is any callable from images (B, 3, H, W) in [-1, 1] to a sequence of feature maps (B, ...), with gradients.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.imaging.lpips import SCALE, SHIFT, vgg16
from nextscale.io.module_folder import fill
from nextscale.io.state_files import expect, read_state
from nextscale.training.adversarial import feature_distance

Features = Callable[[Tensor], Sequence[Tensor]]
EFFICIENTNET = "efficientnet-lite0"


class FeatureDistance:
    """The mean of |F(x) - F(y)| / |F(y)| over images and feature maps, `feature_distance`, of a frozen network.

    Args:
        network: a module or another callable. A module is frozen and put into evaluation mode.
    """

    def __init__(self, network: Features):
        self.network = network
        if isinstance(network, nn.Module):
            network.requires_grad_(False).eval()

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of images from their targets, a scalar with gradients to the images."""
        with torch.no_grad():
            wanted = list(self.network(targets))
        return feature_distance(list(self.network(images)), wanted)

    def to(self, device: torch.device) -> FeatureDistance:
        """Move the network, if it is a module."""
        if isinstance(self.network, nn.Module):
            self.network.to(device)
        return self


class VGGFeatures(nn.Module):
    """The features after the last ReLU of the five stages of VGG16: (B, 3, H, W) in [-1, 1] -> five maps."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16()
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = (images - self.shift) / self.scale, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]


def load_network(name: str) -> Features:
    """Return the network that a recipe names.

    ======================  ====================================================================
    ``efficientnet-lite0``  EfficientNet-Lite0, trained on ImageNet, from the extra ``perceptual``
    ``FILE.pth``            VGG16 with torchvision's names; also ``FILE.safetensors``
    ``module:function``     what the function returns when it is called without arguments
    ======================  ====================================================================

    Raises:
        InputError: the package is not installed, the file is missing or has other tensors, or there is no such
            function.
    """
    if name == EFFICIENTNET:
        from nextscale.training.efficientnet import load_efficientnet

        return load_efficientnet()
    if name.endswith((".pth", ".pt", ".safetensors")):
        state = read_state(Path(name))
        expect(state, ["features.0.weight"], Path(name), "VGG16 as torchvision names it")
        return fill(VGGFeatures(), {key: t for key, t in state.items() if key.startswith("features.")}, name)
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise InputError(
            f"unknown perceptual_network {name!r}: expected {EFFICIENTNET}, a .pth or .safetensors file of VGG16, or "
            "module:function"
        )
    try:
        made: Any = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise InputError(f"perceptual_network {name}: {error}") from error
    if not callable(made):
        raise InputError(f"perceptual_network {name} must return a callable, not {type(made).__name__}")
    return cast(Features, made)


def name_of(network: Features) -> str:
    """Return the name that a recipe records for a network: ``module:name`` of its function or class."""
    named = network if hasattr(network, "__qualname__") else type(network)
    return f"{named.__module__}:{named.__qualname__}"
