"""The exponential moving average (EMA) of a model's weights, which sampling uses."""

from __future__ import annotations

import copy

import torch
from torch import nn


def make_ema(model: nn.Module, decay: float) -> nn.Module:
    """Return the initial EMA model: a frozen copy of the model.

    If ``decay`` is 0 and the model has no buffers, return the model itself. A model with buffers may behave
    differently in training and evaluation mode, and therefore needs a copy.
    """
    if decay == 0 and not any(True for _ in model.buffers()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Set ema = d * ema + (1 - d) * model with d = min(decay, (1 + step) / (10 + step)).

    Floating-point buffers, such as the statistics of batch norm, are averaged as well.
    """
    if ema is model:
        return
    decay = min(decay, (1 + step) / (10 + step))
    for average, parameter in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)
    for average, buffer in zip(ema.buffers(), model.buffers(), strict=True):
        if average.is_floating_point():
            average.lerp_(buffer, 1 - decay)
