"""Read the points of scaling laws from training runs: size, compute, and validation metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextscale.analysis.flops import block_parameters, training_flops
from nextscale.curves.compare import with_token_figures
from nextscale.curves.log import LOG, read_run
from nextscale.errors import InputError
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.files import read_json
from nextscale.io.module_folder import CONFIG
from nextscale.io.module_folder import read_config as read_module_config
from nextscale.transformer.var import VARConfig

RECIPE = "recipe.json"


@dataclass(frozen=True)
class Measure:
    """A metric that decreases with size and compute.

    Args:
        title: title in plots and tables.
        unit: unit in plots and tables.
        factor: factor from the logged value to the unit.
    """

    title: str
    unit: str
    factor: float = 1


MEASURES = {
    "last_scale_loss": Measure("loss of the last scale", "nats"),
    "loss": Measure("loss of all scales", "nats"),
    "last_scale_error": Measure("token error of the last scale", "%", 100),
    "error": Measure("token error of all scales", "%", 100),
}
"""The metrics, in the order of the paper's panels."""


@dataclass(frozen=True)
class ScalingRun:
    """A finished run and its n validations.

    Args:
        name: name in plots and tables.
        config: configuration of the model.
        parameters: N, as counted by `block_parameters`.
        steps, images: (n,) training steps and images at each validation.
        compute: (n,) PFLOP of training at each validation.
        measures: (n,) for each of `MEASURES`.
        origin: properties that runs must share to be comparable.
    """

    name: str
    config: VARConfig
    parameters: int
    steps: np.ndarray
    images: np.ndarray
    compute: np.ndarray
    measures: dict[str, np.ndarray]
    origin: dict[str, Any]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the given folders that are runs, and the runs inside the others.

    Raises:
        InputError: a folder does not exist, or contains no run.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: expected a training run, or a folder of several")
        runs = [folder] if (folder / LOG).is_file() else sorted(path.parent for path in folder.glob(f"*/{LOG}"))
        if not runs:
            raise InputError(f"{folder} has no {LOG}, and no folder with one: expected training runs")
        found += runs
    return list(dict.fromkeys(found))


def read_points(folder: Path, name: str) -> ScalingRun:
    """Read the validations of a finished transformer run.

    Raises:
        InputError: the run is not of a transformer, has no validation, is not finished, has diverged, or lacks its
            recipe or checkpoint.
    """
    log = read_run(folder, name)
    if not log.predicts_tokens:
        raise InputError(f"{folder} trains no transformer: expected runs of train var")
    if "val_loss" not in log.series:
        raise InputError(f"{folder} logged no validation: expected a run on data with val/")
    log = with_token_figures(log, shares=False)
    figures = {f"val_{name}": log.series.get(f"val_{name}") for name in ("last_scale_loss", "loss")}
    figures |= {f"val_{name}": log.series.get(f"val_{name}") for name in ("last_scale_accuracy", "accuracy")}
    steps = log.series["val_loss"].steps
    for figure, series in figures.items():
        if series is None or not np.array_equal(series.steps, steps):
            raise InputError(f"{folder} has no {figure} at some of its validations: expected a log of train var")
    last_loss, loss, last_accuracy, accuracy = (series.values for series in figures.values() if series)
    made = read_json(folder / RECIPE)
    recipe, inputs = (made.get(part) if isinstance(made, dict) else None for part in ("recipe", "inputs"))
    if not isinstance(recipe, dict) or not isinstance(inputs, dict) or not {"steps", "batch_size"} <= recipe.keys():
        raise InputError(f"{folder / RECIPE} is not the recipe of a training run, with steps and batch_size")
    if steps[-1] < recipe["steps"]:
        raise InputError(
            f"{folder} was last validated at step {steps[-1]:.0f} of {recipe['steps']}: repeat its command to finish it"
        )
    measures = {
        "last_scale_loss": last_loss,
        "loss": loss,
        "last_scale_error": 1 - last_accuracy,
        "error": 1 - accuracy,
    }
    for figure, values in measures.items():
        if not np.isfinite(values[-1]):
            title = MEASURES[figure].title
            raise InputError(f"{folder} ends with a {title} of {values[-1]}: expected runs that did not diverge")
    config = read_config(folder)
    images = steps * recipe["batch_size"]
    return ScalingRun(
        name,
        config,
        block_parameters(config),
        steps,
        images,
        images * training_flops(config) / 1e6,
        measures,
        {
            "schedule": str(config.schedule),
            "codebook size": config.codebook_size,
            "tokenizer": inputs.get("tokenizer"),
            "data": inputs.get("data"),
        },
    )


def read_config(folder: Path) -> VARConfig:
    """Read the config of a run's newest checkpoint."""
    checkpoint = newest_checkpoint(folder)
    if not checkpoint:
        raise InputError(f"{folder} has no complete checkpoint: expected one, for the size of the model")
    return read_module_config(VARConfig, checkpoint / CONFIG)


def check_alike(runs: Sequence[ScalingRun]) -> None:
    """Raise InputError if the losses of the runs are not comparable because their tokens or images differ."""
    for run in runs[1:]:
        for what, value in runs[0].origin.items():
            if run.origin[what] != value:
                raise InputError(
                    f"{runs[0].name} has {what} {value} and {run.name} {run.origin[what]}: "
                    "expected runs on the same tokens"
                )
