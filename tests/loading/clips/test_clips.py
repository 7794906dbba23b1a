"""Generated clips: what they show, what their captions say, and the splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import refused
from tiny_scenes import NAMES, write_sprites
from tiny_star import make_schedule

from nextscale.data.clips.clip import SPLITS, Clip, caption, is_held_out, random_clip
from nextscale.data.clips.dataset import ClipDataset
from nextscale.data.clips.files import write_clips
from nextscale.data.clips.motions import MOTIONS
from nextscale.data.clips.render import render
from nextscale.data.content import Pixels
from nextscale.data.scenes.objects import THINGS
from nextscale.data.scenes.scene import EVERYTHING
from nextscale.data.scenes.sprites import Sprites, open_sprites
from nextscale.data.splits import find_sources
from nextscale.training.video_data import open_clips


@pytest.fixture(scope="module")
def sprites(tmp_path_factory) -> Sprites:
    return open_sprites(write_sprites(tmp_path_factory.mktemp("sprites")))


def object_in(frames: np.ndarray) -> np.ndarray:
    """(x, y, width) of the object in each frame, in pixels, on a black background."""
    found = []
    for frame in frames.astype(int):
        rows, columns = np.nonzero(np.abs(frame - frame[0, 0]).sum(-1) > 90)
        found.append((columns.mean(), rows.mean(), np.ptp(columns) + 1))
    return np.array(found)


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions(sprites, motion):
    frames = render(Clip("black", "3d", "cat", motion), sprites, np.random.default_rng(1), 17)
    assert frames.shape == (17, 64, 64, 3) and frames.dtype == np.uint8
    x, y, width = object_in(frames).T
    dx, dy, dwidth = x[-1] - x[0], y[-1] - y[0], width[-1] - width[0]
    expected = {"left": dx < -24, "right": dx > 24, "up": dy < -20, "down": dy > 20, "grow": dwidth > 10}
    expected |= {"shrink": dwidth < -10, "jump": y.min() < y[0] - 12 and abs(y[8] - y[0]) < 2}
    expected |= {"spin": np.ptp(width) > 4 and abs(dwidth) < 3 and np.ptp(x) < 3}
    assert {name for name, shown in expected.items() if shown} == {motion}


def test_a_clip_depends_on_seed_epoch_and_index_only(sprites):
    clips = ClipDataset(sprites, seed=3)
    example = clips[1, 5]
    assert isinstance(example.content, Pixels)
    assert example.content.values.shape == (3, 17, 64, 64) and example.content.values.abs().max() <= 1
    assert torch.equal(ClipDataset(sprites, seed=3)[1, 5].content.values, example.content.values)
    for other in (
        clips[2, 5],
        clips[1, 6],
        ClipDataset(sprites, seed=4)[1, 5],
        ClipDataset(sprites, split="val")[1, 5],
    ):
        assert not torch.equal(other.content.values, example.content.values)
    val = ClipDataset(sprites, split="val")
    assert val[0, 1].caption == val[9, 1].caption  # validation has the same clips in every epoch


def test_captions_say_what_clips_show(sprites):
    clips = ClipDataset(sprites)
    for i in range(60):
        clip, _, text = clips.render(0, i, complete=True)
        assert any(f" {noun} " in f" {text} " for noun in THINGS[clip.object].names)
        assert any(verb in text for verb in MOTIONS[clip.motion].verbs)
        assert not any(verb in text for name, motion in MOTIONS.items() if name != clip.motion for verb in motion.verbs)
    assert clips[0, 0].caption == f"<<<t=1s>>>{clips.render(0, 0).caption}" == next(iter(clips.captions()))
    assert ClipDataset(sprites, frames=13)[0, 0].caption == ClipDataset(sprites, frames=13).render(0, 0).caption


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_pairs(split):
    rng = np.random.default_rng(0)
    held_out = {is_held_out(random_clip(rng, split, EVERYTHING)) for _ in range(300)}
    assert held_out == {"train": {False}, "val": {False}, "held-out": {True}, "all": {True, False}}[split]


def test_clips_as_training_data(sprites):
    schedule = make_schedule(3)
    with refused("square", 32, 48):
        open_clips(f"clips:{sprites.root}", schedule, 0)
    square = type(schedule)(((1, 1), (2, 2)), 3)
    train, val = open_clips(f"clips:{sprites.root}", square, 0)
    assert val and train[0, 0].content.values.shape == (3, 9, 32, 32)
    assert (len(train), len(val)) == (100_000, 1_000)


def test_clips_as_files(sprites, tmp_path):
    write_clips(sprites.root, tmp_path, 3, frames=5, size=32)
    lines = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["000000.mp4", "000001.mp4", "000002.mp4"]
    assert (tmp_path / "000001.txt").read_text().strip() == lines[1]["prompt"]
    assert {line["object"] for line in lines} <= set(NAMES)
    train, _ = open_clips(str(tmp_path), type(make_schedule())(((1, 1), (2, 2)), 2), 0)
    assert train[0, 1].content.values.shape == (3, 5, 32, 32) and train[0, 1].caption == lines[1]["prompt"]


def test_bad_input(sprites, tmp_path: Path):
    with refused("expected clips:PATH"):
        open_clips("clips:", make_schedule(), 0)
    with refused("no sprites"):
        open_clips(f"clips:{tmp_path}", make_schedule(), 0)
    with refused("video models", "images"):
        find_sources(f"clips:{sprites.root}")
    with refused("unknown motion 'swim'", "left"):
        Clip("black", "3d", "cat", "swim")
    with refused("frames", 1, 0):
        write_clips(sprites.root, tmp_path, frames=0)
    rng = np.random.default_rng(0)
    assert caption(Clip("black", "3d", "cat", "jump"), rng, complete=True).split()[0] in ("a", "one")
