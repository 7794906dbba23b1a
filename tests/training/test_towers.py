"""Training of two towers."""

import shutil

import pytest
import torch
from tiny_runs import make_images
from tiny_scenes import write_sprites

from nextscale.conditioning.vocabulary import vocabulary_of
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.data.scenes import dataset
from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.sprites import open_sprites
from nextscale.errors import InputError
from nextscale.evaluation.two_towers import TowersConfig, TwoTowers, load_towers
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.training.towers_setup import train_towers
from nextscale.training.towers_task import TowersRecipe, TowersTask


def test_a_resumed_run_ends_with_the_same_towers(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "EPOCH", 40)
    monkeypatch.setattr(dataset, "VALIDATION", 6)
    data = f"scenes:{write_sprites(tmp_path / 'sprites')}"
    arguments = {"size": (16, 16), "steps": 3, "batch_size": 4, "dtype": "float32"}
    real = train_towers(data, tmp_path / "whole", **arguments)
    assert real is not None and (real.images, real.candidates) == (6, 6)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    (tmp_path / "resumed" / "towers.json").unlink()
    assert train_towers(data, tmp_path / "resumed", **arguments) == real
    towers = [load_towers(tmp_path / name) for name in ("whole", "resumed")]
    assert towers[0][1] == towers[1][1] == real
    assert weights_fingerprint(towers[0][0]) == weights_fingerprint(towers[1][0])


def test_data_without_captions_is_refused(tmp_path):
    make_images(tmp_path / "photos" / "hat", 4)
    with pytest.raises(InputError, match="caption"):
        train_towers(str(tmp_path / "photos"), tmp_path / "out")


def test_it_learns_a_few_pairs(tmp_path):
    data = SceneDataset(open_sprites(write_sprites(tmp_path / "sprites")), (32, 32))
    examples = [data[0, i] for i in range(8)]
    captions = tuple(example.caption for example in examples)
    images = Pixels(torch.stack([example.image for example in examples]))
    batch = Batch(images, torch.zeros(8, dtype=torch.int64), (), BatchSlice(0, 8, 8), captions)
    config = TowersConfig(vocabulary_of(captions, least_count=1, width=16, heads=2), (32, 32), (8, 12), 16)
    task = TowersTask(TwoTowers(config).init_weights(torch.Generator().manual_seed(0)), TowersRecipe(model=config))
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    losses = []
    for step in range(80):
        loss = task.losses(batch, step, torch.Generator().manual_seed(step))[0]["model"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3
    assert task.validate(task.model, [batch]) == {"retrieval": 1.0}
