"""Classifier-free guidance (arXiv 2207.12598): strategies that combine two predictions of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nextscale.errors import InputError
from nextscale.protocols import Guidance, GuidanceSchedule, Transformer
from nextscale.sampling.settings import PerScale
from nextscale.scales.schedule import ScaleSchedule, Visit


@dataclass(frozen=True)
class WeightedGuidance:
    """(1 + t_k) * conditional - t_k * unconditional, with one weight t_k per visit. A weight of 0 is no guidance."""

    weights: tuple[float, ...]
    is_linear: bool = True

    def needs_unconditional(self, visits: Sequence[Visit]) -> bool:
        return any(self.weights[visit.index] != 0 for visit in visits)

    def combine(self, conditional: Tensor, unconditional: Tensor, visit: Visit) -> Tensor:
        weight = self.weights[visit.index]
        return (1 + weight) * conditional - weight * unconditional


def make_guidance(
    given: Guidance | GuidanceSchedule | None, cfg: PerScale, schedule: ScaleSchedule, model: Transformer
) -> Guidance:
    """The guidance of a call: the model's own for ``cfg``, or a given strategy, or a given weight for each visit.

    Raises:
        InputError: ``given`` is neither a `Guidance` nor a function of a visit.
    """
    if given is None:
        return WeightedGuidance(model.guidance_weights(cfg, schedule))
    if isinstance(given, Guidance):
        return given
    if callable(given):
        return WeightedGuidance(tuple(float(given(visit)) for visit in schedule.visits))
    raise InputError(f"guidance is a Guidance or a function of a visit, not {type(given).__name__}")
