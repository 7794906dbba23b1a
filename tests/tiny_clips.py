"""Videos with captions, and a recipe small enough to train an InfinityStar in a test.

As a script: the command line, to which the recipe is the preset "tiny-clips", for these videos whatever --data names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_captions import Source
from tiny_star import make_schedule
from tiny_star import make_tokenizer as make_star_tokenizer

import nextscale as ns
from nextscale.conditioning.splitting import FIRST
from nextscale.data.content import Latents, Pixels
from nextscale.data.dataset import Example
from nextscale.data.loader import Batch, BatchSlice, collate
from nextscale.training.changes import with_changes
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.recipes import TextRecipe, TransformerRecipe, VideoRecipe, WordsRecipe
from nextscale.training.video_task import VideoTask

COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0), "white": (1.0, 1.0, 1.0)}
MOTIONS = ("right", "left", "down", "up")
SCHEDULE = make_schedule(3)
FRAMES, HEIGHT, WIDTH = 9, 32, 48
RECIPE = TransformerRecipe(
    steps=24,
    batch_size=4,
    learning_rate=3e-3,
    precision="float32",
    flip=False,
    depth=2,
    width=32,
    heads=4,
    text=TextRecipe(tokens=6, words=WordsRecipe(width=16, depth=1, heads=2, least_count=1), self_correction_scales=100),
    video=VideoRecipe(kv_heads=2),
)
LAST = f"checkpoints/step-{RECIPE.steps:08d}"
INTERVALS: dict[str, Any] = {"log_every": 1, "save_every": 5, "validate_every": 8, "preview_every": 8}


@lru_cache
def make_tokenizer() -> ns.VideoTokenizer:
    """Shared between tests: do not change it."""
    return make_star_tokenizer(SCHEDULE)


def with_video(recipe: TransformerRecipe, **changes: Any) -> TransformerRecipe:
    """Change fields of ``video``."""
    return with_changes(recipe, {"video": changes})


class Halves:
    """Videos of an edge that moves over a colour, and captions such as "red moves up"."""

    source = Source()

    def __init__(self, count: int, seed: int = 0):
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> Example:
        colour, motion = list(COLOURS)[key[1] % 4], MOTIONS[key[1] // 4 % 4]
        side = WIDTH if motion in ("left", "right") else HEIGHT
        moved = (torch.arange(FRAMES)[:, None] * side // FRAMES) > torch.arange(side)
        moved = moved.flip(1) if motion in ("left", "up") else moved
        moved = moved[:, None] if side == WIDTH else moved[:, :, None]
        video = torch.where(moved[None], torch.tensor(COLOURS[colour])[:, None, None, None], torch.tensor(-1.0))
        return Example(Pixels(video.expand(3, FRAMES, HEIGHT, WIDTH).clone()), 0, (), f"{colour} moves {motion}")


class RandomLatents(Halves):
    """The captions of `Halves` with latents that are random for each caption."""

    def __getitem__(self, key: tuple[int, int]) -> Example:
        colour, motion = list(COLOURS)[key[1] % 4], MOTIONS[key[1] // 4 % 4]
        latents = torch.randn(64, 3, 2, 3, generator=torch.Generator().manual_seed(key[1] % 16))
        return Example(Latents(latents), 0, (), f"{colour} moves {motion}")


def a_batch(count: int = 4, first: int = 0, whole: int = 0) -> Batch:
    """A part of a batch of `Halves`."""
    batch = collate([Halves(16)[0, i] for i in range(first, first + count)])
    return batch._replace(batch_slice=BatchSlice(first, count, whole or count))


def make_task(
    recipe: TransformerRecipe = RECIPE, model: ns.InfinityStar | None = None, read: Any = None, **text: Any
) -> VideoTask:
    """A task for a random model, which reads a caption as the features of its words."""
    from tiny_star import make_model

    model = make_model() if model is None else model
    return VideoTask(model, make_tokenizer(), with_changes(recipe, {"text": text}), read or read_words)


def read_words(captions: Sequence[str]) -> ns.TextFeatures:
    """Random features of each word."""
    features = []
    for caption in captions:
        for word in caption.split():
            generator = torch.Generator().manual_seed(FIRST + sum(word.encode()))
            features.append(torch.randn(16, generator=generator))
    return ns.TextFeatures(torch.stack(features), [len(caption.split()) for caption in captions])


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Weights and state of the last checkpoint."""
    files = ("model.safetensors", "state/state.safetensors")
    return {f"{name}/{key}": t for name in files for key, t in load_file(run / LAST / name).items()}


def log(run: Path, name: str) -> list[Any]:
    """The logged values of a name."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def open_latents(*_: object) -> tuple[RandomLatents, RandomLatents]:
    """In the place of `nextscale.training.transformer_setup.open_examples`."""
    return RandomLatents(16), RandomLatents(6)


def clip_command(tokenizer: Path, run: Path, *more: object) -> list[str]:
    """Arguments of the command line."""
    paths = ["--data", "halves", "--tokenizer", str(tokenizer), "--out", str(run)]
    return ["train", "transformer", "--preset", "tiny-clips", *paths, *map(str, more)]


if __name__ == "__main__":
    from nextscale.cli.main import main
    from nextscale.training import transformer_setup

    TRANSFORMERS |= {"tiny-clips": RECIPE}
    transformer_setup.open_examples = open_latents  # type: ignore[assignment]
    main()
