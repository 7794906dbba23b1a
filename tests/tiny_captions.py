"""Images with captions, and a recipe small enough to train an Infinity in a test.

As a script: the command line, to which the recipe is the preset "tiny-text", for these images whatever --data names.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from tiny_infinity import WordEncoder, make_tokenizer

from nextscale.data.content import Pixels
from nextscale.data.dataset import Example
from nextscale.data.loader import Batch, BatchSlice, collate
from nextscale.training.changes import with_changes
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.recipes import TextRecipe, TransformerRecipe, WordsRecipe

COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0), "white": (1.0, 1.0, 1.0)}
PLACES = ("left", "right", "top", "bottom")
SIDE = 12
RECIPE = TransformerRecipe(
    steps=24,
    batch_size=4,
    learning_rate=1e-3,
    precision="bfloat16",
    flip=False,
    depth=2,
    width=48,
    heads=3,
    shared_adaln=True,
    drop_path=0.1,
    init_gamma=0.1,
    text=TextRecipe(tokens=6),
)
LAST = f"checkpoints/step-{RECIPE.steps:08d}"
SMALL = WordsRecipe(width=16, depth=1, heads=2)
WORDS: TransformerRecipe = replace(RECIPE, text=TextRecipe(tokens=10, words=SMALL))
"""With a text encoder that is trained, too."""


def with_text(recipe: TransformerRecipe, **changes: Any) -> TransformerRecipe:
    """Change fields of ``text``."""
    return with_changes(recipe, {"text": changes})


INTERVALS: dict[str, Any] = {"log_every": 1, "save_every": 5, "validate_every": 8, "preview_every": 8}


class Source(NamedTuple):
    root: str = "halves"
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Halves:
    """Images with a half in a colour, on black, and captions such as "red on the left"."""

    source = Source()

    def __init__(self, count: int, seed: int = 0):
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> Example:
        colour, place = list(COLOURS)[key[1] % len(COLOURS)], PLACES[key[1] // len(COLOURS) % len(PLACES)]
        image = -torch.ones(3, SIDE, SIDE)
        half = slice(0, SIDE // 2) if place in ("left", "top") else slice(SIDE // 2, SIDE)
        where = (slice(None), half) if place in ("top", "bottom") else (slice(None), slice(None), half)
        image[where] = torch.tensor(COLOURS[colour])[:, None, None]
        return Example(Pixels(image), 0, (), f"{colour} on the {place}")


def a_batch(count: int = 4, first: int = 0, whole: int = 0) -> Batch:
    """A part of a batch of `Halves`."""
    batch = collate([Halves(16)[0, i] for i in range(first, first + count)])
    return batch._replace(batch_slice=BatchSlice(first, count, whole or count))


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Weights and state of the last checkpoint."""
    files = ("model.safetensors", "state/state.safetensors")
    return {f"{name}/{key}": t for name in files for key, t in load_file(run / LAST / name).items()}


def log(run: Path, name: str) -> list[Any]:
    """The logged values of a name."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def open_halves(*_: object) -> tuple[Halves, Halves]:
    """In the place of `nextscale.training.transformer_setup.open_examples`."""
    return Halves(16), Halves(6)


def save_tokenizer(folder: Path) -> Path:
    make_tokenizer().save_pretrained(folder)
    return folder


def text_command(tokenizer: Path, run: Path, *more: object, preset: str = "tiny-text") -> list[str]:
    """Arguments of the command line."""
    intervals = [f"--{name.replace('_', '-')}={value}" for name, value in INTERVALS.items()]
    paths = ["--data", "halves", "--tokenizer", str(tokenizer), "--out", str(run)]
    paths += ["--text-encoder", "words"] if preset == "tiny-text" else []
    return ["train", "transformer", "--preset", preset, *paths, *intervals, *map(str, more)]


if __name__ == "__main__":
    from nextscale.cli.main import main
    from nextscale.training import text_setup, transformer_setup

    TRANSFORMERS |= {"tiny-text": RECIPE, "tiny-words": WORDS}
    transformer_setup.open_examples = open_halves  # type: ignore[assignment]
    text_setup.as_encoder = lambda source, most: WordEncoder()  # type: ignore[assignment]
    main()
