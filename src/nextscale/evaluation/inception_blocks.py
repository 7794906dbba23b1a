"""The blocks of the Inception-v3 of 2015-12-05: their description, and the modules.

The network is that of arXiv 1512.00567, as in TensorFlow's ``classify_image_graph_def.pb``. It differs from later
versions: average pooling excludes the padding, and the last block uses max pooling instead of average pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-3
"""Epsilon of batch normalisation."""


class Conv(NamedTuple):
    """A convolution of a branch. Stride 1 keeps the size; stride 2 has no padding."""

    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


def mean(x: Tensor) -> Tensor:
    """Return the average over 3 x 3 pixels, excluding the padding."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    """Return the maximum over 3 x 3 pixels."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def shrink(x: Tensor) -> Tensor:
    """Return the maximum over 3 x 3 pixels with stride 2."""
    return F.max_pool2d(x, 3, stride=2)


Pool = Callable[[Tensor], Tensor]
Step = Conv | tuple[Conv, Conv] | Pool
"""A convolution, two parallel ones, or a pooling."""
Branches = Mapping[str, tuple[Step, ...]]
THREE, ROW, COLUMN = (3, 3), (1, 7), (7, 1)
PAIR = (Conv(384, (1, 3)), Conv(384, (3, 1)))


def fine(pooled: int) -> Branches:
    """Return the branches of a block at 35 x 35."""
    return {
        "branch1x1": (Conv(64),),
        "branch5x5": (Conv(48), Conv(64, (5, 5))),
        "branch3x3dbl": (Conv(64), Conv(96, THREE), Conv(96, THREE)),
        "branch_pool": (mean, Conv(pooled)),
    }


def middle(narrow: int) -> Branches:
    """Return the branches of a block at 17 x 17."""
    return {
        "branch1x1": (Conv(192),),
        "branch7x7": (Conv(narrow), Conv(narrow, ROW), Conv(192, COLUMN)),
        "branch7x7dbl": (Conv(narrow), Conv(narrow, COLUMN), Conv(narrow, ROW), Conv(narrow, COLUMN), Conv(192, ROW)),
        "branch_pool": (mean, Conv(192)),
    }


def coarse(pool: Pool) -> Branches:
    """Return the branches of a block at 8 x 8."""
    return {
        "branch1x1": (Conv(320),),
        "branch3x3": (Conv(384), PAIR),
        "branch3x3dbl": (Conv(448), Conv(384, THREE), PAIR),
        "branch_pool": (pool, Conv(192)),
    }


BLOCKS: Mapping[str, Branches] = {
    "Mixed_5b": fine(32),
    "Mixed_5c": fine(64),
    "Mixed_5d": fine(64),
    "Mixed_6a": {
        "branch3x3": (Conv(384, THREE, 2),),
        "branch3x3dbl": (Conv(64), Conv(96, THREE), Conv(96, THREE, 2)),
        "branch_pool": (shrink,),
    },
    "Mixed_6b": middle(128),
    "Mixed_6c": middle(160),
    "Mixed_6d": middle(160),
    "Mixed_6e": middle(192),
    "Mixed_7a": {
        "branch3x3": (Conv(192), Conv(320, THREE, 2)),
        "branch7x7x3": (Conv(192), Conv(192, ROW), Conv(192, COLUMN), Conv(192, THREE, 2)),
        "branch_pool": (shrink,),
    },
    "Mixed_7b": coarse(mean),
    "Mixed_7c": coarse(maximum),
}
"""The blocks by their names in the weight files of torch-fidelity, pytorch-fid and torchvision."""


class Norm(nn.Module):
    """Batch normalisation with stored statistics only."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.ones(channels))
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPS)


class Layer(nn.Module):
    """relu(bn(conv(x)))."""

    def __init__(self, before: int, conv: Conv, padded: bool = True):
        super().__init__()
        after, kernel, stride = conv
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = Norm(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()


class Block(nn.Module):
    """Parallel branches, concatenated along the channels.

    Layer i of a branch is named ``branch_i``, and two parallel layers ``branch_ia`` and ``branch_ib``.
    """

    def __init__(self, before: int, branches: Branches):
        super().__init__()
        self.plans: list[list[list[str] | Pool]] = []
        self.channels = 0
        for branch, steps in branches.items():
            plan, channels, number = [], before, 0
            layers = sum(isinstance(step, tuple) for step in steps)
            for step in steps:
                if not isinstance(step, tuple):
                    plan.append(step)
                    continue
                number += 1
                name = f"{branch}_{number}" if layers > 1 else branch
                parts = {name: step} if isinstance(step, Conv) else {name + "a": step[0], name + "b": step[1]}
                for part, conv in parts.items():
                    self.add_module(part, Layer(channels, conv))
                plan.append(list(parts))
                channels = sum(conv.channels for conv in parts.values())
            self.plans.append(plan)
            self.channels += channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.follow(plan, x) for plan in self.plans], 1)

    def follow(self, plan: list[list[str] | Pool], x: Tensor) -> Tensor:
        """Apply one branch."""
        for step in plan:
            x = torch.cat([self.get_submodule(name)(x) for name in step], 1) if isinstance(step, list) else step(x)
        return x
