"""Training of the reader of scenes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_scenes import write_sprites

from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.sprites import open_sprites
from nextscale.data.scenes.targets import GRID, NAMES, PLACES, ReadableScenes, pack, unpack
from nextscale.errors import InputError
from nextscale.evaluation.scene_reader import ReaderConfig, SceneReader, load_reader
from nextscale.evaluation.scene_table import read_ceiling
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.training import reader_setup
from nextscale.training.reader_setup import train_reader
from nextscale.training.reader_task import ReaderRecipe, ReaderTask, cell_targets, spoil


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setattr(reader_setup, "KINDS", {"fresh scenes": ("train", 6), "held-out": ("held-out", 3)})
    monkeypatch.setattr(reader_setup, "VALIDATION", 4)


def train(folder: Path, out: Path, **changes):
    return train_reader(f"scenes:{folder}", out, **{"steps": 4, "batch_size": 4, "dtype": "float32", **changes})


def test_a_resumed_run_ends_with_the_same_weights_and_ceiling(tmp_path, monkeypatch):
    sprites = write_sprites(tmp_path / "sprites")
    ceiling = train(sprites, tmp_path / "whole")
    assert ceiling is not None and ceiling["fresh scenes"].counts["everything"] == 6
    assert read_ceiling(tmp_path / "whole") == ceiling
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for name in ("config.json", "model.safetensors", "reader.json"):
        (tmp_path / "resumed" / name).unlink(missing_ok=True)
    assert train(sprites, tmp_path / "resumed") == ceiling
    prints = [weights_fingerprint(load_reader(tmp_path / name)) for name in ("whole", "resumed")]
    assert prints[0] == prints[1]
    with pytest.raises(InputError, match="steps"):
        train(sprites, tmp_path / "whole", steps=5)


def test_only_scenes_are_accepted(tmp_path):
    with pytest.raises(InputError, match="expected scenes:PATH"):
        train_reader(str(tmp_path), tmp_path / "out")
    with pytest.raises(InputError, match="size must be a multiple of 64, not 72"):
        train(write_sprites(tmp_path / "sprites"), tmp_path / "out", size=72)


def test_neighbours_of_an_object_do_not_count():
    item = 1 + 5 * GRID**2 + 2 * GRID + 7  # object 5 in row 2, column 7, in style 1
    config = ReaderConfig(NAMES, ("3d", "flat", "noto"), PLACES, 64)
    items = unpack(torch.tensor([pack([1, 0, item, 0, 0, 0])]))
    targets = cell_targets(items, config)[0]
    assert targets[2, 7] == 1 + 5 * 3 + 1
    assert (targets == -100).sum() == 5 and (targets == 0).sum() == 64 - 6
    assert set(targets[1:4, 6:].flatten().tolist()) == {17, -100}
    assert cell_targets(items, replace(config, size=128))[0][5, 15] == 17


def test_it_learns_a_few_scenes(tmp_path):
    data = ReadableScenes(SceneDataset(open_sprites(write_sprites(tmp_path / "sprites")), split="all"))
    examples = [data[0, i] for i in range(4)]
    batch = Batch(
        Pixels(torch.stack([e.image for e in examples])),
        torch.tensor([e.label for e in examples]),
        (),
        BatchSlice(0, 4, 4),
    )
    config = ReaderConfig(NAMES, ("3d", "flat", "noto"), PLACES, 64, (8, 12, 16), (1, 1))
    task = ReaderTask(SceneReader(config).init_weights(torch.Generator().manual_seed(0)), ReaderRecipe(model=config))
    optimizer = torch.optim.Adam(task.model.parameters(), 1e-2)
    losses = []
    for step in range(60):
        loss = task.losses(batch, step, torch.Generator().manual_seed(step))[0]["model"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 8


def test_half_of_the_images_are_spoiled_a_little():
    images = torch.rand(64, 3, 16, 16) * 2 - 1
    numbers, noise = torch.rand(64, 3), torch.rand(64, 3, 16, 16) * 2 - 1
    changed = spoil(images, numbers, noise) != images
    assert (changed.flatten(1).any(1) == (numbers[:, 0] < 0.5)).all()
    assert (spoil(images, numbers, noise) - images).abs().max() < 1.6
