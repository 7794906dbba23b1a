"""AdamW with the parameter groups of the official code, and the loss scaler for float16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextscale.training.recipes import Recipe
from nextscale.training.schedules import learning_rate, weight_decay

NO_DECAY = (
    *("start_embedding", "position_embedding", "level_embedding", "adaln_offset", "log_scale"),
    *("unconditional_text", "text_pool.query"),
)
"""Parameters without weight decay, in addition to biases and 1-D tensors. The class embedding has weight decay."""


def decays(name: str, parameter: Tensor) -> bool:
    """Return whether weight decay applies to a parameter."""
    return parameter.ndim > 1 and not name.endswith("bias") and not any(part in name for part in NO_DECAY)


def make_optimizer(
    model: nn.Module, recipe: Recipe, ratio: float = 1.0, betas: tuple[float, float] | None = None
) -> torch.optim.AdamW:
    """Return AdamW with two parameter groups, with and without weight decay. Its state is initialised with zeros.

    Args:
        ratio: learning rate of the network divided by that of the recipe.
        betas: replace those of the recipe.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if decays(name, p)], "decays": True, "ratio": ratio},
        {"params": [p for name, p in named if not decays(name, p)], "decays": False, "ratio": ratio},
    ]
    rate = recipe.learning_rate * ratio
    optimizer = torch.optim.AdamW(
        groups, lr=rate, betas=betas or recipe.betas, eps=recipe.eps, weight_decay=0.0, fused=True
    )
    for _, p in named:
        optimizer.state[p] = {
            "step": torch.zeros((), device=p.device),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return optimizer


def set_step(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> float:
    """Set learning rate and weight decay for a step. Return the learning rate of the recipe."""
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
        group["lr"] = rate * group["ratio"]
        group["weight_decay"] = decay if group["decays"] else 0.0
    return rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named ``{parameter index}.{name}``. They are not copies."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {f"{i}.{name}": value for i, p in enumerate(parameters) for name, value in optimizer.state[p].items()}


class LossScaler(torch.amp.GradScaler):
    """Scale the loss so that float16 gradients do not underflow, as the official code does.

    The scale starts at 2^11 and doubles after 1000 steps without overflow, up to 32768. An overflow halves the scale
    and skips the step.
    """

    INITIAL, GROWTH_INTERVAL, LARGEST = 2.0**11, 1000, 32768.0

    def __init__(self, device: torch.device, enabled: bool):
        super().__init__(device.type, init_scale=self.INITIAL, growth_interval=self.GROWTH_INTERVAL, enabled=enabled)
        self.factor = torch.tensor([self.INITIAL, 0.0])
        """The scale, and the number of steps since it last grew."""

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Update the scale after a step."""
        super().update(new_scale)
        if self.is_enabled():
            if self.get_scale() > self.LARGEST:
                super().update(self.LARGEST)
            self.factor.copy_(torch.tensor([self.get_scale(), float(self._get_growth_tracker())]))

    def restore(self) -> None:
        """Set the scale from ``factor``, after loading a checkpoint."""
        state = self.state_dict()
        if state:
            scale, tracker = self.factor.tolist()
            self.load_state_dict(state | {"scale": scale, "_growth_tracker": int(tracker)})
