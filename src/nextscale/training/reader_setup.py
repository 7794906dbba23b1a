"""Train the reader of scenes that evaluation uses: data, checks, run folder."""

from __future__ import annotations

from pathlib import Path

import torch

from nextscale.data.scenes.dataset import SceneDataset, as_content
from nextscale.data.scenes.name import SCENES, is_scenes
from nextscale.data.scenes.objects import STYLES
from nextscale.data.scenes.sprites import Sprites, open_sprites
from nextscale.data.scenes.targets import NAMES, PLACES, ReadableScenes
from nextscale.errors import InputError
from nextscale.evaluation.scene_agreement import Expected, Scores, judge, total
from nextscale.evaluation.scene_reader import ReaderConfig, SceneReader, load_reader
from nextscale.evaluation.scene_table import write_ceiling
from nextscale.runtime.device import pick_device
from nextscale.runtime.stop import resumable
from nextscale.training.network_run import train_network
from nextscale.training.reader_task import ReaderRecipe, ReaderTask
from nextscale.training.recipes import Precision

VALIDATION = 500
FRESH, HELD_OUT = "fresh scenes", "held-out combinations"
KINDS = {FRESH: ("train", 1000), HELD_OUT: ("held-out", 300)}
"""The real renders on which the ceiling of a reader is measured: split and number."""
CEILING_SEED = 2**31
"""Seed of these renders, which no training uses."""


def train_reader(
    data: str,
    out: Path,
    size: int = 64,
    steps: int = 1500,
    batch_size: int = 64,
    seed: int = 0,
    dtype: Precision = "auto",
    device: str = "auto",
) -> dict[str, Scores] | None:
    """Train a reader of scenes, or resume its run, and measure its ceiling: its scores on real renders.

    It is trained on scenes of its own, which may have combinations that are held out from models.

    Args:
        data: ``scenes:PATH``.
        out: folder of the run, which then holds the reader.
        size: side of the images to read.

    Returns:
        The scores on renders of the two `KINDS`, or None if SIGTERM or SIGHUP stopped the run.

    Raises:
        InputError: the data is not ``scenes:PATH``, or ``out`` holds something else; see `train`.
        KeyboardInterrupt: Ctrl-C stopped the run, and a checkpoint is saved.
    """
    if not is_scenes(data):
        raise InputError(f"a reader is trained on scenes: expected {SCENES}PATH with emoji sprites, got {data!r}")
    sprites = open_sprites(data.removeprefix(SCENES))
    config = ReaderConfig(NAMES, STYLES, PLACES, size)
    recipe = ReaderRecipe(model=config, steps=steps, batch_size=batch_size, seed=seed, precision=dtype)
    scenes = ReadableScenes(SceneDataset(sprites, (size, size), seed, "all"))
    others = ReadableScenes(SceneDataset(sprites, (size, size), CEILING_SEED + 1, "all", VALIDATION))
    said = f"scenes of {len(NAMES)} objects and {len(PLACES)} backgrounds in {len(STYLES)} styles"
    average = train_network(
        "evaluate reader", make_task, recipe, scenes, others, data=data, out=out, device=device, summary=said
    )
    if average is None:
        return None
    with resumable("the reader is trained. Repeat the same command to measure its ceiling."):
        reader = load_reader(out, complete=False).to(pick_device(device))
        ceiling = {kind: ceiling_of(reader, sprites, *which) for kind, which in KINDS.items()}
        write_ceiling(out, ceiling)
    return ceiling


def make_task(recipe: ReaderRecipe, device: torch.device) -> ReaderTask:
    """Return the task of a new reader on a device."""
    network = SceneReader(recipe.model).init_weights(torch.Generator().manual_seed(recipe.seed))
    return ReaderTask(network.to(device), recipe)


def ceiling_of(reader: SceneReader, sprites: Sprites, split: str, count: int) -> Scores:
    """Return the scores of a reader on real renders: what a perfect model would get."""
    size, device = reader.config.size, next(reader.parameters()).device
    scenes = SceneDataset(sprites, (size, size), CEILING_SEED, split)
    verdicts = []
    for i in range(count):
        rendered = scenes.render(0, i)
        image, scene = as_content(rendered.pixels).values[None].to(device), rendered.scene
        expected = Expected(scene.objects, scene.count, scene.relation, scene.style, scene.background)
        verdicts.append(judge(expected, reader.read(image)[0]))
    return total(verdicts)
