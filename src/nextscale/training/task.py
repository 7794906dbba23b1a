"""What the loop needs to know of the model it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nextscale.data.loader import Batch
from nextscale.runtime.distributed import all_sum

MODEL = "model"
"""Name of the network that a run is for; others only help to train it."""

Losses = dict[str, Tensor]
"""For each network that learns in a step, what it minimises."""
Metrics = dict[str, Tensor]
"""Named scalars, or (K,) tensors with one value for each scale."""


class Task(Protocol):
    """A model, its loss, and how it is judged.

    A batch may be a part of the step's whole batch (its `BatchSlice`); what is drawn at random is drawn for the whole, so
    that the division makes no difference.
    """

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What is trained, each by an optimizer of its own; ``model`` first. Called by way of this dictionary alone
        where gradients are wanted: the loop may put a wrapper in a network's place."""
        ...

    @property
    def units(self) -> list[str]:
        """Names of the model's blocks, which are compiled, and computed again in the backward pass, one by one."""
        ...

    @property
    def shards(self) -> list[str]:
        """Names of the parts of the model whose weights FSDP gathers one after the other."""
        ...

    def optimizer_options(self, network: str) -> dict[str, Any]:
        """What the optimizer of a network has other than the recipe says; see `make_optimizer`."""
        ...

    @property
    def config(self) -> Any:
        """The model's configuration, a dataclass."""
        ...

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Losses, Metrics]:
        """The losses of a training batch, and what the log shall show of it.

        The gradient of their sum gives each network the gradient of its own loss.
        """
        ...

    def after_step(self, step: int, metrics: Metrics, generator: torch.Generator) -> Metrics:
        """What is left to do once the optimizers have moved the weights; sees the metrics of the step."""
        ...

    def report(self) -> dict[str, Any]:
        """Further figures on the steps since the last report; ``alarm``, if there is one, is a sentence."""
        ...

    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        """Figures on images that training does not see, for the EMA model."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What the task remembers from step to step, for the checkpoint: filled in place when a run is resumed."""
        ...


class Means:
    """Means over images, of all batches of all processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = torch.zeros((), dtype=torch.double)

    def add(self, metrics: Mapping[str, Tensor], images: int) -> None:
        """Metrics that are means over so many images."""
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0) + images * value.detach().double().cpu()
        self._count += images

    def read(self) -> dict[str, Any]:
        """As plain numbers."""
        total = all_sum(self._count)
        return {name: (all_sum(value) / total).tolist() for name, value in self._sums.items()}
