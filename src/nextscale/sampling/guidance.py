"""Classifier-free guidance (arXiv 2207.12598) with a weight that grows over the scales."""

from __future__ import annotations

from torch import Tensor

from nextscale.scales.schedule import ScaleSchedule


def guidance_weight(cfg: float, schedule: ScaleSchedule, k: int) -> float:
    """t_k = cfg * k / (K - 1): none at the first scale, all of it at the last."""
    return cfg * schedule.position(k)


def guide(features: Tensor, weight: float) -> Tensor:
    """(1 + t) * conditional - t * unconditional, of logits, or of what a linear head makes them from:

        head((1 + t) x - t y) = (1 + t) head(x) - t head(y)

    which is half the head's work. (2B, n, C), conditional half first -> (B, n, C).
    """
    conditional, unconditional = features.chunk(2)
    return (1 + weight) * conditional - weight * unconditional
