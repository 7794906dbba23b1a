"""Train a small network that evaluation uses: a classifier, a reader of scenes, two towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from nextscale.data.dataset import Examples
from nextscale.data.loader import check_data
from nextscale.data.splits import absolute_name
from nextscale.io.checkpoint_folder import has_reached
from nextscale.runtime.device import pick_device, precision
from nextscale.training.loop import Intervals, train
from nextscale.training.recipes import RecipeT
from nextscale.training.run import Run, settled
from nextscale.training.setup import check_outside
from nextscale.training.task import Task


def train_network(
    verb: str,
    make_task: Callable[[RecipeT, torch.device], Task],
    recipe: RecipeT,
    examples: Examples,
    val_examples: Examples,
    *,
    data: str,
    out: Path,
    device: str,
    summary: str,
    inputs: Mapping[str, Any] = MappingProxyType({}),
) -> nn.Module | None:
    """Train a network in the folder of a run, or resume the run.

    Args:
        verb: the command, for the record of the run.
        make_task: makes the task, with its network on a device, from the recipe whose precision is decided.
        data: name of the data.
        out: folder of the run.
        device: auto, cpu or cuda.
        summary: description of the data, which the run prints.
        inputs: what a resumed run must have in common with the first part, in addition to recipe and data.

    Returns:
        The averaged network, or None if SIGTERM or SIGHUP stopped the run.

    Raises:
        InputError: ``out`` holds something else or lies in the data, or the device does not support the precision; see
            also `train`.
        KeyboardInterrupt: Ctrl-C stopped the run, and a checkpoint is saved.
    """
    on = pick_device(device)
    recipe = settled(recipe, out, on)
    precision(recipe.precision, on)  # raises if the device does not support it
    check_outside(out, data)
    check_data(examples, val_examples, recipe.batch_size)
    task = make_task(recipe, on)
    run = Run(out, recipe, {"task": verb, "data": absolute_name(data), **inputs})
    run.say(summary)
    average = train(task, examples, val_examples, recipe, run, Intervals(), on)
    return average if has_reached(out, recipe.steps) else None
