"""The exponential moving average of a model's weights, which is what one samples with."""

from __future__ import annotations

import copy

import torch
from torch import nn


def make_ema(model: nn.Module, decay: float) -> nn.Module:
    """A frozen copy to start the average from.

    The model itself, if the average is to forget at once and nothing is kept beside the parameters, which training and
    use may treat differently.
    """
    if decay == 0 and not any(True for _ in model.buffers()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """ema = d * ema + (1 - d) * model, with d = min(decay, (1 + step) / (10 + step)) so that it starts fast.

    Statistics that a model keeps beside its parameters, such as those of batch norm, are averaged with them.
    """
    if ema is model:
        return
    decay = min(decay, (1 + step) / (10 + step))
    for average, parameter in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)
    for average, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        if average.is_floating_point():
            average.lerp_(buffer, 1 - decay)
