"""What the loop needs to know of the model it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nextscale.data.loader import Batch

Metrics = dict[str, Tensor]
"""Named scalars, or (K,) tensors with one value for each scale."""


class Task(Protocol):
    """A model, its loss, and how it is judged."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def config(self) -> Any:
        """The model's configuration, a dataclass."""
        ...

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The loss of a training batch, and what the log shall show of it."""
        ...

    def after_step(self, step: int, generator: torch.Generator) -> Metrics:
        """What is left to do once the optimizer has moved the weights."""
        ...

    def validate(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
        """Figures on pictures that training does not see, for the EMA model."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What the task remembers from step to step, for the checkpoint."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        ...


def mean_by_picture(rows: list[tuple[int, Metrics]]) -> dict[str, Any]:
    """Means of (number of pictures, metrics) over batches, as plain numbers."""
    total = sum(count for count, _ in rows)
    means = {name: sum(count * metrics[name].double().cpu() for count, metrics in rows) / total for name in rows[0][1]}
    return {name: torch.as_tensor(value).tolist() for name, value in means.items()}
