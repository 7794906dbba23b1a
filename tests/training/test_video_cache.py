"""Caches of latents: they hold what the tokenizer makes of videos, and models are trained on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import refused
from tiny_clips import RECIPE, log
from tiny_scenes import write_sprites
from tiny_star import make_tokenizer
from tiny_videos import grey_frames, write

import nextscale as ns
from nextscale.data.cache import open_cache
from nextscale.data.content import Latents
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.training import token_cache
from nextscale.training.cache_parts import CacheSettings
from nextscale.training.setup import plan
from nextscale.training.token_cache import make_cache
from nextscale.training.transformer_setup import run_transformer
from nextscale.training.video_data import open_clips

SCHEDULE = SpacetimeSchedule(((1, 1), (2, 2)), 3, clip_repeats=(2, 1), detail_area=2)
CPU = torch.device("cpu")
RARE = {"save_every": 0, "validate_every": 0, "preview_every": 0, "log_every": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten videos with captions, one too short."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(10):
        write(root / f"{i}.mp4", grey_frames(2 if i == 4 else 9 + i, (32, 32)))
        (root / f"{i}.txt").write_text(f"video {i}")
    return root


def tokenizer() -> ns.VideoTokenizer:
    return make_tokenizer(SCHEDULE)


def train(data: Path, out: Path) -> list[float]:
    """The losses of a short run."""
    recipe, settings = plan({}, replace(RECIPE, steps=3), RARE | {"val_fraction": 0.2}, out)
    run_transformer(str(data), out, tokenizer(), recipe, settings)
    return log(out, "loss")


def test_a_cache_has_the_latents_of_videos_and_can_be_trained_on(folder, tmp_path):
    make_cache(str(folder), tmp_path / "cache", tokenizer(), CacheSettings(val_fraction=0.2, batch_size=4), CPU)
    train_set, val = open_cache(tmp_path / "cache", 0)
    videos, _ = open_clips(str(folder), SCHEDULE, 0, val_fraction=0.2)
    assert val and len(train_set) + len(val) == 9  # without the short one
    examples = {example.caption: example for example in (videos[0, i] for i in range(len(videos)))}
    for i in range(len(train_set)):
        example = train_set[0, i]
        assert isinstance(example.content, Latents) and example.content.values.shape == (64, 3, 2, 2)
        latents = tokenizer().encode_latents(examples[example.caption].content.values[None])[0]
        torch.testing.assert_close(example.content.values, latents, atol=1e-5, rtol=1e-5)
    assert sorted(train_set.captions() + val.captions()) == [f"video {i}" for i in range(10) if i != 4]
    losses = train(tmp_path / "cache", tmp_path / "run")
    assert len(losses) == 3 and all(0.4 < loss < 1 for loss in losses)


def test_generated_clips(tmp_path, monkeypatch):
    """A cache of one epoch has the clips of this epoch. Shards are small enough for long videos."""
    monkeypatch.setattr("nextscale.data.clips.dataset.EPOCH", 6)
    monkeypatch.setattr("nextscale.data.clips.dataset.VALIDATION", 2)
    monkeypatch.setattr(token_cache, "SHARD_BYTES", 4 * 4 * 64 * 3 * 2 * 2)
    data = f"clips:{write_sprites(tmp_path / 'sprites')}"
    make_cache(data, tmp_path / "cache", tokenizer(), CacheSettings(crops=2), CPU)
    index = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert index["latents"] == [64, 3, 2, 2] and index["images_in_shard"] == 4
    assert len(list((tmp_path / "cache" / "train").glob("*.safetensors"))) == 3
    cached, val = open_cache(tmp_path / "cache", 0)
    clips, _ = open_clips(data, SCHEDULE, 0)
    assert len(cached) == 12 and val and len(val) == 2
    for i in (0, 5, 11):
        example = clips[divmod(i, 6)]
        assert cached[0, i].caption == example.caption
        latents = tokenizer().encode_latents(example.content.values[None])[0]
        torch.testing.assert_close(cached[0, i].content.values, latents, atol=1e-5, rtol=1e-5)


def test_bad_input(folder, tmp_path):
    with refused("crops 0 or 1", 2):
        make_cache(str(folder), tmp_path / "cache", tokenizer(), CacheSettings(crops=2), CPU)
    with refused("aspects and budget"):
        make_cache(str(folder), tmp_path / "cache", tokenizer(), CacheSettings(budget="0.06M"), CPU)
    make_cache(str(folder), tmp_path / "cache", tokenizer(), CacheSettings(flip=True), CPU)
    path = tmp_path / "cache" / "cache.json"
    index = json.loads(path.read_text())
    for change, words in (
        ({"latents": [64, 3, 2]}, ("shape of latents", 64)),
        ({"latents": [64, 3, 2, 3]}, ("expected latents", "64, 3, 2, 3")),
        ({"images_in_shard": -1}, ("images_in_shard", -1)),
    ):
        path.write_text(json.dumps(index | change))
        with refused(*words):
            open_cache(tmp_path / "cache", 0)
