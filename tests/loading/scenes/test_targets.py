"""Packed targets of the reader of scenes."""

import numpy as np
import torch

from nextscale.data.loader import TrainingBatches
from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.objects import STYLES
from nextscale.data.scenes.targets import GRID, NAMES, PLACES, RADICES, ReadableScenes, pack, target, unpack


def test_every_target_survives_packing():
    rng = np.random.default_rng(0)
    items = [[int(rng.integers(radix)) for radix in RADICES] for _ in range(200)]
    items += [[0] * len(RADICES), [radix - 1 for radix in RADICES]]
    packed = torch.tensor([pack(row) for row in items])
    assert packed.dtype == torch.int64 and packed.min() >= 0
    assert unpack(packed).tolist() == items


def test_targets_name_what_the_scene_shows_and_where(sprites):
    scenes = SceneDataset(sprites, split="all")
    for i in range(50):
        rendered = scenes.render(0, i)
        style, place, *objects = target(rendered)
        assert (STYLES[style], PLACES[place]) == (rendered.scene.style, rendered.scene.background)
        found = [((item - 1) // GRID**2, divmod((item - 1) % GRID**2, GRID)) for item in objects if item]
        assert sorted({NAMES[number] for number, _ in found}) == sorted(rendered.scene.objects)
        assert len(found) == max(rendered.scene.count, len(rendered.scene.objects))
        for box, (_, (row, column)) in zip(rendered.boxes, found, strict=True):
            assert abs((box.top + box.bottom) / 2 - 8 * row - 4) <= 4
            assert abs((box.left + box.right) / 2 - 8 * column - 4) <= 4
    assert set(PLACES) == set(BACKGROUNDS)


def test_batches_carry_targets_as_labels(sprites):
    data = ReadableScenes(SceneDataset(sprites, split="all"))
    batch = next(TrainingBatches(data, 4, 0))[0]
    assert batch.labels.dtype == torch.int64 and batch.images.shape == (4, 3, 64, 64)
    assert not torch.equal(data[0, 0].image, data[1, 0].image)
