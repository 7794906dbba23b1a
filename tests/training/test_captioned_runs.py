"""Runs of Infinity on captioned data: folders, aspect ratios, caches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import refused
from tiny_captions import INTERVALS, RECIPE, save_tokenizer
from tiny_infinity import WordEncoder, make_tokenizer
from tiny_runs import make_images

import nextscale as ns
from nextscale.training.cache_parts import CacheSettings
from nextscale.training.recipes import TextRecipe
from nextscale.training.token_cache import make_cache

STEPS = 6
RARE: dict[str, Any] = INTERVALS | {"validate_every": 0, "preview_every": 0}
TEXT = TextRecipe(tokens=6, self_correction=0.0)
CLEAN = replace(RECIPE, steps=STEPS, batch_size=2, depth=1, precision="float32", text=TEXT)
ASPECTS = replace(CLEAN, text=replace(TEXT, aspects=True))
SCHEDULE = ns.ScaleSchedule.infinity("0.06M")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Wide and square photos, each with a caption."""
    root = tmp_path_factory.mktemp("photos")
    for name, size in (("wide", (30, 20)), ("square", (20, 20))):
        for path in make_images(root / name, 8, seed=len(name), size=size).glob("*.png"):
            path.with_suffix(".txt").write_text(f"a {name} photo, number {path.stem}")
    return root


@pytest.fixture(scope="module")
def tokenizer() -> ns.ImageTokenizer:
    return make_tokenizer(schedule=SCHEDULE, multipliers=(1, 1))


def train(data: Path, out: Path, tokenizer: Any, recipe: Any = CLEAN, encoder: Any = None, **changes: Any) -> None:
    text_encoder = encoder or WordEncoder()
    ns.train_transformer(data, out, tokenizer, recipe, text_encoder=text_encoder, **(RARE | changes))


def log(run: Path, name: str) -> list[Any]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / f"checkpoints/step-{STEPS:08d}" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def take_back(run: Path) -> None:
    """Leave the last checkpoint incomplete."""
    for path in (run / f"checkpoints/step-{STEPS:08d}").iterdir():
        if path.is_file():
            path.unlink()


def test_a_folder_of_captions_from_the_command_line(photos, tmp_path, monkeypatch):
    from nextscale.cli.main import main
    from nextscale.training import text_setup
    from nextscale.training.presets import TRANSFORMERS

    monkeypatch.setitem(TRANSFORMERS, "tiny-text", RECIPE)
    monkeypatch.setattr(text_setup, "as_encoder", lambda source, most: WordEncoder())
    (tmp_path / "photos").symlink_to(photos)
    paths = {"data": "photos", "tokenizer": save_tokenizer(tmp_path / "tokenizer"), "out": "run"}
    monkeypatch.chdir(tmp_path)
    options = [f"--{name}={value}" for name, value in paths.items()]
    main(["train", "transformer", "--preset=tiny-text", *options, "--steps=4", "--text-encoder=words"])
    assert len(log(tmp_path / "run", "loss")) == 1
    pipe = ns.Pipeline.from_pretrained(tmp_path / "run", text_encoder=WordEncoder())
    assert pipe("a wide photo", seed=0).images[0].size == (12, 12)


def test_an_image_without_a_caption_is_logged(tmp_path, capfd):
    root = make_images(tmp_path / "photos", 4)
    for i in range(3):
        (root / f"{i}.txt").write_text("a photo")
    train(root, tmp_path / "run", make_tokenizer(), val_fraction=0, flip=True)
    assert log(tmp_path / "run", "unreadable") == [f"{root / '3.png'} has no caption"]
    assert "flip mirrors half of the images, but not the left and right" in capfd.readouterr().err


def test_a_run_at_aspect_ratios_resumes_bit_for_bit(photos, tmp_path, tokenizer, capfd):
    recipe = replace(ASPECTS, text=replace(TEXT, aspects=True, self_correction=0.3))
    train(photos, tmp_path / "whole", tokenizer, recipe)
    said = capfd.readouterr().err
    assert "flip" not in said and "aspect ratios (height / width) and their images: 0.666 (" in said
    train(photos, tmp_path / "other", tokenizer, recipe, save_every=4)
    take_back(tmp_path / "other")
    train(photos, tmp_path / "other", tokenizer, recipe, save_every=4)
    assert "resuming" in capfd.readouterr().err
    assert same(tmp_path / "other", tmp_path / "whole")
    pipe = ns.Pipeline.from_pretrained(tmp_path / "whole", text_encoder=WordEncoder())
    assert pipe("a photo", aspect="3:2", seed=0).images[0].size == (42, 28)


def test_parts_of_a_batch_have_its_ratio(photos, tmp_path, tokenizer):
    """Gradient accumulation gives the curve of the whole batch."""
    train(photos, tmp_path / "whole", tokenizer, ASPECTS)
    train(photos, tmp_path / "parts", tokenizer, ASPECTS, accumulate=2)
    ours, theirs = (torch.tensor(log(tmp_path / name, "loss")) for name in ("parts", "whole"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_training_on_a_cache_equals_training_on_images(photos, tmp_path, tokenizer):
    """Bits, captions and text features are cached: nothing is encoded any more."""
    settings = CacheSettings(aspects=True)
    make_cache(str(photos), tmp_path / "cache", tokenizer, settings, CPU, WordEncoder())
    encoder = WordEncoder()
    train(tmp_path / "cache", tmp_path / "cached", "", ASPECTS, encoder)
    assert encoder.encoded == []
    train(photos, tmp_path / "images", tokenizer, ASPECTS)
    for name in ("loss", "val_loss", "scale_loss"):
        assert log(tmp_path / "cached", name) == log(tmp_path / "images", name)
    assert same(tmp_path / "cached", tmp_path / "images")


def test_a_run_on_a_cache_resumes(photos, tmp_path):
    make_cache(str(photos), tmp_path / "cache", make_tokenizer(), CacheSettings(crops=2), CPU)
    train(tmp_path / "cache", tmp_path / "whole", "")
    train(tmp_path / "cache", tmp_path / "other", "", save_every=4)
    take_back(tmp_path / "other")
    train(tmp_path / "cache", tmp_path / "other", "", save_every=4)
    assert same(tmp_path / "other", tmp_path / "whole")


def test_caches_that_do_not_fit(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, CacheSettings(), CPU, WordEncoder())
    with refused("images of one size", "--aspects"):
        train(tmp_path / "cache", tmp_path / "run", "", ASPECTS)
    other = WordEncoder()
    other.fingerprint = "other"
    with refused("text encoder words, not of other"):
        train(tmp_path / "cache", tmp_path / "run", "", encoder=other)
    with refused("one tokenizer"):
        train(tmp_path / "cache", tmp_path / "run", make_tokenizer())
    with refused("no captions", "photos"):
        train(make_images(tmp_path / "photos", 4), tmp_path / "run", make_tokenizer())
    with refused("one of Infinity's schedules, not the scales 1 2 3"):
        train(photos, tmp_path / "run", make_tokenizer(), ASPECTS)
    with refused("images of one aspect ratio", "at most 8", "not 10"):
        train(photos, tmp_path / "run", tokenizer, ASPECTS, batch_size=10, val_fraction=0)
    assert not (tmp_path / "run").exists()
