"""Scenes as a data set, as files, and in training."""

import json
import pickle
import tarfile
from typing import Any

import numpy as np
import pytest
import torch
from tiny_scenes import NAMES, write_sprites

from nextscale.data.loader import TrainingBatches
from nextscale.data.scenes.__main__ import main
from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.files import write_scenes
from nextscale.data.scenes.scene import is_held_out
from nextscale.data.scenes.sprites import open_sprites
from nextscale.data.splits import absolute_name, find_sources, open_splits
from nextscale.errors import InputError
from nextscale.imaging.images import read_image


def test_examples_depend_on_seed_epoch_and_index_only(sprites):
    data, again, other = (SceneDataset(sprites, seed=seed) for seed in (0, 0, 1))
    one = data[0, 3]
    data[1, 5]
    assert torch.equal(data[0, 3].image, one.image) and torch.equal(again[0, 3].image, one.image)
    assert data[0, 3].caption == one.caption and one.label == 0 and one.unreadable == ()
    for example in (data[1, 3], data[0, 4], other[0, 3]):
        assert not torch.equal(example.image, one.image)
    assert one.image.shape == (3, 64, 64) and one.image.min() >= -1 and one.image.max() <= 1


def test_validation_is_the_same_for_every_seed_and_epoch(folder):
    first, second = (open_splits(f"scenes:{folder}", (64, 64), seed)[1] for seed in (0, 7))
    assert first is not None and second is not None
    assert torch.equal(first[0, 2].image, second[4, 2].image)
    assert not torch.equal(first[0, 2].image, SceneDataset(open_sprites(folder))[0, 2].image)
    others = SceneDataset(open_sprites(folder), seed=1, split="val")  # for prompts that are new
    assert not torch.equal(first[0, 2].image, others[0, 2].image)


def test_splits_differ_in_held_out_combinations(sprites):
    for split in ("train", "val", "held-out"):
        data = SceneDataset(sprites, split=split)
        assert {is_held_out(data.render(0, i)[0]) for i in range(60)} == {split == "held-out"}


def test_captions_are_known_without_images(sprites):
    data = SceneDataset(sprites, seed=2, length=20)
    assert list(data.captions()) == [data[0, i].caption for i in range(20)]


def test_open_splits_honours_name_and_size(folder):
    train, val = open_splits(f"scenes:{folder}", (96, 96), seed=3)
    assert train[0, 0].image.shape == (3, 96, 96) and train.seed == 3
    assert val is not None and len(val) == 1000 and train.source.class_names == ("scenes",)
    batch = next(TrainingBatches(train, 4, 0))[0]
    assert len(batch.captions) == 4 and batch.images.shape == (4, 3, 96, 96) and batch.labels.tolist() == [0] * 4
    assert torch.equal(pickle.loads(pickle.dumps(train))[0, 0].image, train[0, 0].image)


def test_scenes_show_a_reserved_thing_on_request(tmp_path):
    sprites = open_sprites(write_sprites(tmp_path / "more", (*NAMES, "zebra")))
    shown = SceneDataset(sprites, show="zebra")
    assert all("zebra" in shown.render(0, i).scene.objects for i in range(20))
    assert not any("zebra" in SceneDataset(sprites).render(0, i).scene.objects for i in range(100))
    assert any("zebra" in SceneDataset(sprites, split="all").render(0, i).scene.objects for i in range(100))
    with pytest.raises(InputError, match="has no sprite of 'zebra': expected the name of an object"):
        SceneDataset(open_sprites(write_sprites(tmp_path / "few")), show="zebra")


def test_an_archive_gives_the_same_scenes_as_its_folder(folder, tmp_path):
    for name in ("sprites.tar", "sprites.tar.xz"):
        with tarfile.open(tmp_path / name, "w:xz" if name.endswith("xz") else "w") as archive:
            archive.add(folder, "emoji/inner")
        packed = SceneDataset(open_sprites(tmp_path / name))
        assert torch.equal(packed[0, 0].image, SceneDataset(open_sprites(folder))[0, 0].image)
    assert open_sprites(folder.parent).files == open_sprites(folder).files


def test_bad_sprites_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no archive")
    for place, message in (
        ("empty", "has no sprites: expected sprites.jsonl"),
        ("missing.tar", "cannot read"),
        ("text.tar", "cannot read"),
    ):
        with pytest.raises(InputError, match=message):
            open_splits(f"scenes:{tmp_path / place}", (64, 64), 0)
    with pytest.raises(InputError, match=r"scenes are square: expected .*, not 64, 96"):
        open_splits(f"scenes:{folder}", (64, 96), 0)
    with pytest.raises(InputError, match="expected scenes:PATH"):
        open_splits("scenes:", (64, 64), 0)
    with pytest.raises(InputError, match=r"python -m nextscale\.data\.scenes"):
        find_sources(f"scenes:{folder}")
    (folder / "sprites.jsonl").write_text('{"file": 3}')
    with pytest.raises(InputError, match=r"line 1 of sprites\.jsonl in .* must have file, name and style"):
        open_sprites(folder)
    (folder / "sprites.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"line 1 .* is not JSON"):
        open_sprites(folder)


def test_a_damaged_sprite_is_named(folder):
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot read .* in .*sprites"):
        SceneDataset(open_sprites(folder))[0, 0]


def test_names_with_relative_paths_become_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert absolute_name("scenes:sprites") == f"scenes:{folder}"


def test_scenes_are_written_with_captions(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["scenes", str(folder), "--out", str(out), "--count", "3", "--size", "32"])
    assert main() == 0
    rows = [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == ["000000.png", "000001.png", "000002.png"]
    for row in rows:
        assert (out / row["file"]).with_suffix(".txt").read_text().strip() == row["prompt"]
        assert np.asarray(read_image(out / row["file"])).shape == (32, 32, 3)
    for numbers in ({"count": 0}, {"size": 8}, {"seed": -1}):
        changes: dict[str, Any] = {**numbers}
        with pytest.raises(InputError, match=r"(count|size|seed) must be at least \d+, not (0|8|-1)"):
            write_scenes(folder, out, **changes)
    write_scenes(folder, tmp_path / "held", count=2, split="held-out")
    monkeypatch.setattr("sys.argv", ["scenes", str(tmp_path / "none"), "--out", str(out)])
    assert main() == 2
    assert "cannot read" in capsys.readouterr().err
