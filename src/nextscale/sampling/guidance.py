"""Classifier-free guidance (arXiv 2207.12598) with a weight that grows over the scales."""

from __future__ import annotations

from torch import Tensor

from nextscale.scales import ScaleSchedule


def guidance_weight(cfg: float, schedule: ScaleSchedule, k: int) -> float:
    """t_k = cfg * k / (K - 1): none at the first scale, all of it at the last."""
    return cfg * schedule.position(k)


def guide(logits: Tensor, weight: float) -> Tensor:
    """(1 + t) * conditional - t * unconditional. (2B, n, V), conditional half first -> (B, n, V)."""
    conditional, unconditional = logits.chunk(2)
    return (1 + weight) * conditional - weight * unconditional
