"""The interface between the training loop and the model that it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.runtime.distributed import all_sum

MODEL = "model"
"""Name of the network that a run trains. Other networks, such as a critic, only help to train it."""

Losses = dict[str, Tensor]
"""Maps the name of a network to the scalar loss that it minimises in this step."""
Metrics = dict[str, Tensor]
"""Maps names to scalars, or to (K,) tensors with one value for each scale."""


class Task(Protocol):
    """A model and its loss. These two members are required; `TaskOptions` lists the optional ones.

    A batch may be a part of the step's whole batch: see `BatchSlice`. Use ``batch.batch_slice.random`` for random
    numbers. It generates them for the whole batch, so that results do not depend on how the batch is divided.
    """

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks to train, ``model`` first. Each one gets its own optimizer.

        Call them through this dictionary wherever you need gradients, because the loop may replace a network by a
        wrapper (for example DistributedDataParallel).
        """
        ...

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        """Return the losses of a training batch, and the metrics to log.

        The loop calls ``backward`` once, on the sum of the losses. This sum must give each network the gradient of
        its own loss. A network without a loss is not updated in this step.
        """
        ...


def _no_optimizer_options(network: str) -> dict[str, Any]:
    return {}


def _nothing_after_step(step: int, metrics: Metrics, generator: torch.Generator) -> Metrics:
    return {}


def _no_report() -> dict[str, Any]:
    return {}


def _no_tensors() -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class TaskOptions:
    """The optional members of a task, with the defaults for a task that does not define them."""

    config: Any = None
    """The model's configuration, a dataclass; saved as ``config.json``. Defaults to ``networks["model"].config``."""
    units: Sequence[str] = ()
    """Names of the model's blocks. ``compile`` and ``recompute`` are applied to each of them."""
    shards: Sequence[str] = ()
    """Names of the submodules that FSDP shards separately."""
    optimizer_options: Callable[[str], dict[str, Any]] = _no_optimizer_options
    """``optimizer_options(network)``: keyword arguments of `make_optimizer` for a network."""
    after_step: Callable[[int, Metrics, torch.Generator], Metrics] = _nothing_after_step
    """``after_step(step, metrics, generator)``: called after the optimizers have updated the weights, with the step's
    metrics. Returns more metrics."""
    report: Callable[[], dict[str, Any]] = _no_report
    """``report()``: more values to log, for the steps since the last report. ``alarm``, if present, is a sentence."""
    validate: Callable[[nn.Module, Iterable[Batch]], dict[str, Any]] | None = None
    """``validate(model, batches)``: metrics of the EMA model on validation data. None: the run does not validate."""
    tensors: Callable[[], dict[str, Tensor]] = _no_tensors
    """``tensors()``: state of the task to save in checkpoints. Resuming a run writes into these tensors."""


def options_of(task: Task) -> TaskOptions:
    """Return the optional members that a task defines, and defaults for the others."""
    defined: dict[str, Any] = {"config": getattr(task.networks[MODEL], "config", None)}
    defined |= {field.name: getattr(task, field.name) for field in fields(TaskOptions) if hasattr(task, field.name)}
    return TaskOptions(**defined)


class Means:
    """Means over images, for all batches of all processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = torch.zeros((), dtype=torch.double)

    def add(self, metrics: Mapping[str, Tensor], images: int) -> None:
        """Add metrics that are means over ``images`` images."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0) + images * value.detach().double().cpu()
        self._count += images

    def read(self) -> dict[str, Any]:
        """Return the means as Python numbers and lists. All processes must call this."""
        total = all_sum(self._count)
        return {name: (all_sum(value) / total).tolist() for name, value in self._sums.items()}
