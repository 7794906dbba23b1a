"""Starting from a trained model: other classes, and parameters that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.transformer.var import VAR


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Let the parameters whose names match a pattern (``blocks.*``) stay as they are.

    Raises:
        InputError: a pattern that matches nothing, or patterns that leave nothing to learn.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise InputError(f"no parameter is called {pattern!r}: they are called {names[0]}, ... {names[-1]}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not any(fnmatch(name, pattern) for pattern in patterns))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"freezing {', '.join(patterns)} leaves nothing to learn")


@torch.no_grad()
def with_classes(model: VAR, names: Sequence[str], new_names: Sequence[str]) -> tuple[VAR, str]:
    """The model with a table of other classes, and what became of the rows.

    A class that the model knows by name keeps its row; if it knows no names, or the names are the same, all rows stay.
    A new class starts from the mean of all classes. "No class" stays.

    Args:
        names: of the model's classes; empty if they have none.
    """
    table, count = model.class_embedding.weight, len(new_names)
    if count == model.config.num_classes and (not names or list(names) == list(new_names)):
        return model, f"{count} classes as before"
    changed = VAR(replace(model.config, num_classes=count))
    known = [names.index(name) if name in names else None for name in new_names]
    mean = table[:-1].mean(dim=0)
    rows: list[Tensor] = [mean if row is None else table[row] for row in known]
    weights = model.state_dict() | {"class_embedding.weight": torch.stack([*rows, table[-1]])}
    changed.load_state_dict(weights)
    kept = count - known.count(None)
    return changed, (
        f"class table resized from {model.config.num_classes} to {count} classes: {kept} kept by name, "
        f"{count - kept} start from the mean of all"
    )
