"""Schedules of learning rate and weight decay, as in the official code."""

from __future__ import annotations

import math

from nextscale.errors import InputError

SCHEDULES = ("lin0", "lin", "lin00", "cos", "exp")
"""Names of the schedules. ``linX`` and ``dropX`` with a number 0 < X < 1, such as ``lin0.6``, are also valid."""


def learning_rate(
    step: int, total: int, *, peak: float, warmup: float, warmup_start: float, final_ratio: float, schedule: str
) -> float:
    """Return the learning rate of a step in 0..total-1: linear warm-up, then decay to final_ratio * peak.

    ``lin0`` and ``lin`` stay at the peak for 5 % and 15 % of the remaining steps and then decay linearly. ``lin00``
    decays linearly at once. ``cos`` is half a cosine. ``exp`` decays exponentially after 15 %. ``linX`` decays slowly
    for the fraction X of the steps, then fast. ``dropX`` stays at the peak for the fraction X, then drops to
    final_ratio * peak at once.

    Args:
        warmup: number of warm-up steps; rounded to an integer.
        warmup_start: first learning rate, as a fraction of the peak.
    """
    warmup = round(warmup)
    if step < warmup:
        return peak * (warmup_start + (1 - warmup_start) * step / warmup)
    passed = (step - warmup) / max(total - 1 - warmup, 1)
    return peak * _decay(schedule, passed, final_ratio)


def weight_decay(step: int, total: int, *, start: float, end: float) -> float:
    """Return the weight decay of a step: half a cosine from ``start`` to ``end``."""
    return end + (start - end) * (0.5 + 0.5 * math.cos(math.pi * step / max(total - 1, 1)))


def _decay(schedule: str, passed: float, final: float) -> float:
    """Return the fraction of the peak after the fraction ``passed`` of the steps that follow the warm-up."""
    rest = 1 - passed
    if schedule == "cos":
        return final + (1 - final) * (0.5 + 0.5 * math.cos(math.pi * passed))
    if schedule == "lin00":
        return final + (1 - final) * rest
    if schedule in ("lin", "lin0", "exp"):
        flat = 0.05 if schedule == "lin0" else 0.15
        if passed < flat:
            return 1.0
        if schedule == "exp":
            return math.exp((passed - flat) / (1 - flat) * math.log(final))
        return final + (1 - final) * rest / (1 - flat)
    knee = knee_of(schedule)
    if schedule.startswith("drop"):
        return 1.0 if passed < knee else final
    middle = (1 + final + (1 - final) * (1 - knee)) / 2
    if passed < knee:
        return 1 + (middle - 1) * passed / knee
    return final + (middle - final) * rest / (1 - knee)


def knee_of(schedule: str) -> float:
    """Return X of ``linX`` or ``dropX``.

    Raises:
        InputError: the schedule is unknown.
    """
    prefix = "drop" if schedule.startswith("drop") else "lin"
    try:
        knee = float(schedule.removeprefix(prefix))
    except ValueError:
        knee = math.nan
    if not schedule.startswith(prefix) or not 0 < knee < 1:
        known = ", ".join(SCHEDULES)
        raise InputError(f"unknown schedule {schedule!r}: expected {known}, or linX or dropX with 0 < X < 1")
    return knee
