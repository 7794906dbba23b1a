"""Classifier-free guidance (arXiv 2207.12598): strategies that combine two predictions of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from nextscale.errors import InputError, brief
from nextscale.protocols import Guidance, GuidanceSchedule, Schedule, Transformer
from nextscale.sampling.settings import PerScale
from nextscale.scales.schedule import Visit


@dataclass(frozen=True)
class WeightedGuidance:
    """(1 + t_k) * conditional - t_k * unconditional, with one weight t_k per visit. A weight of 0 is no guidance."""

    weights: tuple[float, ...]
    is_linear: bool = True
    after_temperature: bool = False

    def needs_unconditional(self, visits: Sequence[Visit]) -> bool:
        return any(self.weights[visit.index] != 0 for visit in visits)

    def combine(self, conditional: Tensor, unconditional: Tensor, visit: Visit) -> Tensor:
        weight = self.weights[visit.index]
        return (1 + weight) * conditional - weight * unconditional


@dataclass(frozen=True)
class ProjectedGuidance(WeightedGuidance):
    """Adaptive projected guidance (arXiv 2410.02416): the difference of the predictions, limited and without the part
    along the conditional prediction, is added t_k times.

    Predictions are logits divided by the temperature. Norms are taken over all tokens and logits of a visit.
    """

    threshold: float = 0.05
    """Largest root mean square of the difference. 0 means no limit."""
    is_linear: bool = False
    after_temperature: bool = True

    def combine(self, conditional: Tensor, unconditional: Tensor, visit: Visit) -> Tensor:
        difference = (conditional - unconditional).flatten(1)
        if self.threshold:
            rms = difference.square().mean(dim=1, keepdim=True).sqrt()
            difference = difference * (self.threshold / rms).clamp_max(1)
        difference, direction = difference.double(), F.normalize(conditional.flatten(1).double(), dim=1)
        difference = difference - (difference * direction).sum(dim=1, keepdim=True) * direction
        return conditional + self.weights[visit.index] * difference.view_as(conditional).to(conditional.dtype)


def make_guidance(
    given: Guidance | GuidanceSchedule | Literal["cfg", "apg"] | None,
    cfg: PerScale,
    schedule: Schedule,
    model: Transformer,
) -> Guidance:
    """The guidance of a call: the model's own for ``cfg``, or a given strategy, or a given weight for each visit.

    Raises:
        InputError: ``given`` is neither "cfg", "apg", a `Guidance` nor a function of a visit.
    """
    if isinstance(given, str) and given == "apg":
        return ProjectedGuidance(model.guidance_weights(cfg, schedule))
    if given is None or (isinstance(given, str) and given == "cfg"):
        return WeightedGuidance(model.guidance_weights(cfg, schedule))
    if isinstance(given, Guidance):
        return given
    if callable(given):
        return WeightedGuidance(tuple(float(given(visit)) for visit in schedule.visits))
    shown = brief(given) if isinstance(given, str) else type(given).__name__
    raise InputError(f"guidance is cfg, apg, a Guidance or a function of a visit, not {shown}")
