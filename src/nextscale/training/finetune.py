"""Fine-tune a trained model: change its classes or scales, and freeze parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names match a pattern such as ``blocks.*``.

    Raises:
        InputError: a pattern matches no parameter, or all parameters would be frozen.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise InputError(f"no parameter name matches {pattern!r}: the names are {names[0]}, ... {names[-1]}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not any(fnmatch(name, pattern) for pattern in patterns))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"no parameter to train: {', '.join(patterns)} freezes all of them")


@torch.no_grad()
def with_classes(model: Any, names: Sequence[str], new_names: Sequence[str]) -> tuple[Any, str]:
    """Change the classes of a model. Return the model and a description of the change.

    Classes whose name the model knows keep their embedding. Other classes start from the mean of all class embeddings.
    The embedding of "no class" is kept. If the names are equal, or the model has no names and the same number of
    classes, the model is returned unchanged.

    Args:
        model: a transformer with a table ``class_embedding``, such as VAR.
        names: class names of the model; empty if it has none.
    """
    table, count = model.class_embedding.weight, len(new_names)
    if count == model.config.num_classes and (not names or list(names) == list(new_names)):
        return model, f"same {count} classes"
    changed = type(model)(replace(model.config, num_classes=count))
    known = [names.index(name) if name in names else None for name in new_names]
    mean = table[:-1].mean(dim=0)
    rows: list[Tensor] = [mean if row is None else table[row] for row in known]
    weights = model.state_dict() | {"class_embedding.weight": torch.stack([*rows, table[-1]])}
    changed.load_state_dict(weights)
    kept = count - known.count(None)
    return changed, (
        f"class embedding resized from {model.config.num_classes} to {count} classes: {kept} kept by name, "
        f"{count - kept} start from the mean of all"
    )


def with_schedule(tokenizer: ImageTokenizer, schedule: ScaleSchedule) -> ImageTokenizer:
    """Return a bitwise tokenizer with other scales, which shares the weights: they do not depend on the scales.

    A tokenizer that has these scales already, or a codebook, is returned unchanged.
    """
    if tokenizer.config.quantizer == "codebook" or tokenizer.schedule == schedule:
        return tokenizer
    with torch.device("meta"):
        changed = ImageTokenizer(replace(tokenizer.config, schedule=schedule))
    changed.load_state_dict(tokenizer.state_dict(), assign=True)
    return changed
