"""AdamW with the official parameter groups, and one step of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextscale.training.recipes import Recipe
from nextscale.training.schedules import learning_rate, weight_decay

NO_DECAY = ("start_embedding", "position_embedding", "level_embedding", "adaln_offset", "log_scale")
"""Names without weight decay, besides biases and all one-dimensional tensors. The class embedding does decay."""


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter."""
    return parameter.ndim > 1 and not name.endswith("bias") and not any(part in name for part in NO_DECAY)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over two groups: with weight decay and without."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "decays": True},
        {"params": [p for name, p in named if not decays(name, p)], "decays": False},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, weight_decay=0.0)


def set_step(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> float:
    """Set learning rate and weight decay for a step; returns the learning rate."""
    rate = learning_rate(
        step,
        recipe.steps,
        peak=recipe.learning_rate,
        warmup=recipe.warmup * recipe.steps,
        warmup_start=recipe.warmup_start,
        final_ratio=recipe.final_ratio,
        schedule=recipe.schedule,
    )
    decay = weight_decay(step, recipe.steps, start=recipe.weight_decay, end=recipe.weight_decay_end)
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = decay if group["decays"] else 0.0
    return rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: ``{parameter index}.{name}``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, values in state.items() for name, value in values.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The reverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
