"""Folders of artificial runs of several sizes, whose losses follow a law exactly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tiny import list_files

import nextscale as ns
from nextscale.analysis.flops import block_parameters

SCHEDULE = ns.ScaleSchedule.square((1, 2))
TOKENS = (1, 4)
DEPTHS = (1, 2, 3, 4)
VALIDATED = (10, 20, 30)
STEPS, BATCH_SIZE = 30, 8
LOSS, LAST_LOSS, ERROR, LAST_ERROR = (-0.20, 2.5), (-0.23, 2.0), (-0.02, 1e3), (-0.01, 1e4)
"""alpha and beta, N in billions, at the end of each run."""


def power(x: float, law: tuple[float, float]) -> float:
    alpha, beta = law
    return (beta * x) ** alpha


def config_of(depth: int) -> ns.VARConfig:
    return ns.VARConfig.of_depth(depth, schedule=SCHEDULE, codebook_size=24, code_dim=8, num_classes=5)


def validation_lines(depth: int, steps: Sequence[int] = VALIDATED) -> list[dict[str, Any]]:
    """What a run logs, each figure the larger the earlier; at the last step on the laws."""
    n = block_parameters(config_of(depth)) / 1e9
    lines = []
    for step in steps:
        early = (STEPS / step) ** 0.1
        last_error = power(n, LAST_ERROR) * early
        error = power(n, ERROR) * early
        first_error = (error * sum(TOKENS) - last_error * TOKENS[1]) / TOKENS[0]
        last_loss = power(n, LAST_LOSS) * early
        lines.append(
            {
                "step": step,
                "val_loss": power(n, LOSS) * early,
                "val_scale_loss": [2.0, last_loss],
                "val_scale_accuracy": [1 - first_error, 1 - last_error],
            }
        )
    return lines


def write_run(
    folder: Path,
    depth: int,
    lines: Sequence[dict[str, Any]] | None = None,
    config: ns.VARConfig | None = None,
    inputs: dict[str, Any] | None = None,
) -> Path:
    """A run of ``train var``: log, recipe, and a checkpoint without weights."""
    checkpoint = folder / "checkpoints" / f"step-{STEPS:08d}"
    checkpoint.mkdir(parents=True)
    training = [{"step": 10, "loss": 3.0, "scale_loss": [2.0, 3.0], "scale_accuracy": [0.1, 0.1]}]
    lines = training + list(validation_lines(depth) if lines is None else lines)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = {"inputs": inputs or {"tokenizer": "abc", "data": "/cache"}}
    (folder / "recipe.json").write_text(json.dumps(made | {"recipe": {"steps": STEPS, "batch_size": BATCH_SIZE}}))
    (checkpoint / "config.json").write_text(json.dumps(dataclasses.asdict(config or config_of(depth))))
    list_files(checkpoint)
    return folder


def write_ladder(folder: Path, depths: Sequence[int] = DEPTHS) -> Path:
    for depth in depths:
        write_run(folder / f"d{depth:02d}", depth)
    return folder


def noisy(x: np.ndarray, law: tuple[float, float], noise: float, seed: int) -> np.ndarray:
    """The law's values, each off by a normal share of ``noise``."""
    alpha, beta = law
    return (beta * x) ** alpha * np.exp(np.random.default_rng(seed).normal(0, noise, x.shape))
