"""Images and recipes small enough to train in a test.

As a script: the command line, to which these recipes are the preset "tiny".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import nextscale as ns
from nextscale.training.presets import TOKENIZERS, TRANSFORMERS
from nextscale.training.recipes import TokenizerRecipe, TransformerRecipe

SIZE = (8, 8)
TOKENIZER = TokenizerRecipe(
    steps=24,
    batch_size=4,
    learning_rate=1e-3,
    precision="bfloat16",  # on every machine
    restart_every=5,
    model=ns.TokenizerConfig(
        schedule=ns.ScaleSchedule.square((1, 2, 4)),
        channels=32,
        multipliers=(1, 1),
        num_blocks=1,
        code_dim=8,
        codebook_size=24,
    ),
)
BITS = replace(
    TOKENIZER,
    entropy=1e-3,
    diversity_images=1,
    drop_scales=0.4,
    scale_dropout=0.2,
    model=replace(TOKENIZER.model, quantizer="bits", attention=False),
)
TRANSFORMER = TransformerRecipe(
    steps=24,
    batch_size=4,
    learning_rate=1e-3,
    precision="bfloat16",
    depth=2,
    width=32,
    heads=2,
    drop_path=0.1,
    init_gamma=0.1,
)
INTERVALS = (
    "--preset",
    "tiny",
    "--log-every",
    "1",
    "--save-every",
    "5",
    "--validate-every",
    "8",
    "--preview-every",
    "8",
)


def add_presets() -> None:
    TOKENIZERS["tiny"], TRANSFORMERS["tiny"] = TOKENIZER, TRANSFORMER
    TOKENIZERS["tiny-bits"] = BITS


def make_images(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (14, 11)) -> Path:
    """A folder of ``count`` images of noise, (w, h)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def make_splits(folder: Path) -> Path:
    """A folder with train/ and val/ of two classes."""
    for i, (split, count) in enumerate((("train", 5), ("val", 2))):
        for j, name in enumerate(("boot", "dress")):
            make_images(folder / split / name, count, seed=2 * i + j)
    return folder


def train_command(what: str, data: Path, run: Path, *more: object) -> list[str]:
    """Arguments of the command line."""
    return ["train", what, "--data", str(data), "--out", str(run), *INTERVALS, *map(str, more)]


if __name__ == "__main__":
    from nextscale.cli.main import main

    add_presets()
    main()
