"""Folders of artificial training runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SIDES = (1, 2, 3)


def write_run(
    folder: Path, lines: Iterable[dict[str, Any]], batch_size: int | None = 8, codebook_size: int | None = 64
) -> Path:
    """A run with a log, and with a recipe and a checkpoint's configuration unless their number is None."""
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if batch_size:
        (folder / "recipe.json").write_text(json.dumps({"inputs": {}, "recipe": {"batch_size": batch_size}}))
    if codebook_size:
        checkpoint = folder / "checkpoints" / "step-00000010"
        checkpoint.mkdir(parents=True)
        config = {"codebook_size": codebook_size, "schedule": {"sizes": [[side, side] for side in SIDES]}}
        (checkpoint / "config.json").write_text(json.dumps(config))
    return folder


def transformer_lines(count: int = 50, scale: float = 1) -> list[dict[str, Any]]:
    """What a transformer's run logs, every 10 steps, validation every 100."""
    lines: list[dict[str, Any]] = []
    for i in range(1, count + 1):
        loss = scale * (2 + 2 / i)
        figures = {"loss": loss, "scale_loss": [0.5 * loss, loss, 1.2 * loss], "scale_accuracy": [0.3, 0.2, 0.1]}
        lines.append({"step": 10 * i} | figures | {"grad_norm": 0.1 + 9 / i, "learning_rate": 1e-3})
        if i % 10 == 0:
            lines.append({"step": 10 * i} | {f"val_{name}": value for name, value in figures.items()})
    return lines


def tokenizer_lines(count: int = 50) -> list[dict[str, Any]]:
    """What a tokenizer's run logs."""
    return [
        {"step": 10 * i, "loss": 1 / i, "psnr": 20 - 10 / i, "usage": [0.1, 0.5, 1.0], "perplexity": [2.0, 9.0, 60.0]}
        for i in range(1, count + 1)
    ]
