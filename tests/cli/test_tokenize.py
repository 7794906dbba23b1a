"""``nextscale tokenize``, and training on its cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs
import torch
from safetensors.torch import load_file
from tiny import same
from tiny_infinity import make_tokenizer as make_bits_tokenizer
from tiny_runs import SIZE, make_images, train_command
from tiny_t5 import SENTENCES, write_t5

import nextscale as ns
from nextscale.data import cache
from nextscale.data.cache import open_cache, shard_path
from nextscale.data.splits import open_image_splits

EXACT = ("--dtype", "float32", "--steps", "8")


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(cache, "IMAGES_IN_SHARD", 4)


def tokenize(data: Path, tokenizer: Path, out: str, *more: object) -> list[str]:
    return ["tokenize", "--data", str(data), "--tokenizer", str(tokenizer), "--out", str(out), *map(str, more)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_tokens_are_those_of_the_images(call, place, model, small_shards):
    assert call(*tokenize(place / "data", model, "cache", "--crops", 0)).code == 0
    train, val = open_cache(Path("cache"), 0)
    assert val is not None and train.views == val.views == 1
    tokenizer = ns.Pipeline.from_pretrained(model).tokenizer
    images, held_out = open_image_splits(place / "data", tokenizer.config.image_size, 0, flip=False)
    images.augment = False
    for tokens, source in ((train, images), (val, held_out)):
        assert source is not None and len(tokens) == len(source)
        for i in range(len(tokens)):
            expected = torch.cat(tokenizer.encode(source[0, i].image[None]), dim=1)[0]
            assert torch.equal(tokens[0, i].content.values, expected)
            assert tokens[0, i].label == source[0, i].label


def test_views_are_crops_and_their_mirror_images(call, place, model):
    assert call(*tokenize(place / "data", model, "cache", "--crops", 2, "--flip", "--seed", 5)).code == 0
    tokenizer = ns.Pipeline.from_pretrained(model).tokenizer
    dataset, _ = open_image_splits(place / "data", tokenizer.config.image_size, 5, flip=False)
    shard = load_file(shard_path(Path("cache"), "train", 0))
    assert shard["tokens"].shape[1] == 4 and shard["tokens"].dtype == torch.int16
    for i in range(len(dataset)):
        views = [dataset[crop, i].image for crop in range(2)]
        images = torch.stack([views[0], views[0].flip(-1), views[1], views[1].flip(-1)])
        assert torch.equal(shard["tokens"][i].long(), torch.cat(tokenizer.encode(images), dim=1))


def test_an_interrupted_cache_is_finished(call, place, model, small_shards):
    command = tokenize(place / "data", model, "cache", "--crops", 2, "--flip")
    assert call(*command).code == 0
    whole = files_of(Path("cache"))
    assert len([name for name in whole if name.startswith("train/")]) == 3
    (Path("cache") / "val/tokens-00000.safetensors").unlink()
    os.truncate(Path("cache") / "train/tokens-00001.safetensors", 200)
    outcome = call(*command)
    assert outcome.code == 0 and "train shard 2/3" in outcome.err and "train shard 1/3" not in outcome.err
    assert files_of(Path("cache")) == whole


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_make_the_same_files(call, place, model, small_shards):
    command = tokenize(place / "data", model, "cache", "--crops", 2)
    assert call(*command).code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = "from nextscale.data import cache; cache.IMAGES_IN_SHARD = 4; from nextscale.cli.main import main; main()"
    (place / "small.py").write_text(script)
    subprocess.run(
        [*launch, "small.py", *tokenize(place / "data", model, "two", "--crops", 2)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert files_of(Path("two")) == files_of(Path("cache"))


def test_an_unreadable_image_is_left_out_and_named(call, place, model):
    broken = place / "data" / "train" / "boot" / "1.png"
    broken.write_bytes(b"no image")
    outcome = call(*tokenize(place / "data", model, "cache"))
    assert outcome.code == 0
    assert outcome.err.count(str(broken)) == 1
    assert len(open_cache(Path("cache"), 0)[0]) == 9


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line] + [
        line["val_loss"] for line in lines if "val_loss" in line
    ]


def test_training_on_tokens_equals_training_on_images(call, tmp_path, monkeypatch):
    """Images so small that there is but one crop, and none are mirrored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nextscale.data.dataset.MARGIN", 1.0)
    for i, (split, count) in enumerate((("train", 6), ("val", 2))):
        for j, name in enumerate(("boot", "dress")):
            tiny_runs.make_images(tmp_path / "data" / split / name, count, seed=2 * i + j, size=SIZE)
    assert call(*train_command("tokenizer", Path("data"), Path("tokenizer"), *EXACT)).code == 0
    assert call(*tokenize(Path("data"), Path("tokenizer"), "cache", "--crops", 0)).code == 0
    more = (*EXACT, "--set", "flip=false")
    assert call(*train_command("var", Path("data"), Path("a"), "--tokenizer", "tokenizer", *more)).code == 0
    outcome = call(*train_command("var", Path("cache"), Path("b"), *more))
    assert outcome.code == 0 and "training on cached tokens, 1 views of each image" in outcome.err
    assert losses(Path("a")) == losses(Path("b"))
    a, b = (ns.Pipeline.from_pretrained(run) for run in ("a", "b"))
    assert same(a([0, 1], seed=0).tokens, b([0, 1], seed=0).tokens)


def test_a_run_on_a_cache_resumes(call, place, model):
    call(*tokenize(place / "data", model, "cache", "--crops", 2, "--flip"))
    command = train_command("var", Path("cache"), Path("run"))
    assert call(*command).code == 0
    weights = Path("run/checkpoints/step-00000024/model.safetensors")
    expected = weights.read_bytes()
    for path in weights.parent.iterdir():
        if path.is_file():
            path.unlink()
    assert "resuming" in call(*command).err
    assert weights.read_bytes() == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--crops", "3"), ("crops 1, not 3",)),
        (("--seed", "3"), ("seed 0, not 3",)),
        (("--flip",), ("flip False, not True",)),
        (("--data", "photos"), ("data", "photos")),
        (("--tokenizer", "starter"), ("tokenizer", "not")),
    ],
)
def test_a_cache_is_not_finished_with_something_else(call, place, model, change, words):
    command = tokenize(place / "data", model, "cache")
    assert call(*command).code == 0
    before = files_of(Path("cache"))
    outcome = call(*command, *change)
    assert outcome.code == 2 and all(word in outcome.err for word in words)
    assert files_of(Path("cache")) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("tokenize --data data --tokenizer {model} --out photos", ("photos is not empty",)),
        ("tokenize --data none --tokenizer {model} --out new", ("none",)),
        ("tokenize --data data --tokenizer {model} --out data/cache", ("must not lie in the data",)),
        ("tokenize --data cache --tokenizer {model} --out new", ("cache is a token cache",)),
        ("tokenize --data data --tokenizer {model} --out new --crops -1", ("crops", "-1")),
        ("tokenize --data data --tokenizer {model} --out new --batch-size 0", ("batch_size", "0")),
        ("train tokenizer --preset tiny --data cache --out new", ("cache is a token cache",)),
        (
            "train transformer --preset tiny --data cache --out new --tokenizer starter",
            ("one tokenizer", "starter", "cache"),
        ),
        ("train transformer --preset tiny --data cache --out new --batch-size 99", ("99", "10")),
        ("train transformer --preset tiny --data cache --out cache/run", ("must not lie in the data",)),
    ],
)
def test_refusals(call, place, model, command, words):
    assert call(*tokenize(place / "data", model, "cache")).code == 0
    outcome = call(*command.format(model=model).split())
    assert outcome.code == 2
    assert all(word in outcome.err for word in words), outcome.err
    assert outcome.err.count("\n") == 1 and not Path("new").exists()


def test_a_cache_whose_tokenizer_was_changed(call, place, model):
    call(*tokenize(place / "data", model, "cache"))
    ns.Pipeline.from_pretrained("starter").tokenizer.save_pretrained("cache/tokenizer")
    outcome = call(*train_command("var", Path("cache"), Path("run")))
    assert outcome.code == 2 and "holds tokens of the tokenizer" in outcome.err


def test_a_run_goes_on_in_the_precision_that_it_began_in(call, place, model, monkeypatch):
    """On another machine auto may be another one."""
    call(*tokenize(place / "data", model, "cache", "--crops", 2))
    command = train_command("var", Path("cache"), Path("run"))
    for fast in (True, False):
        monkeypatch.setattr("nextscale.training.recipes.has_fast_bfloat16", lambda device, fast=fast: fast)
        outcome = call(*command)
        assert outcome.code == 0
        assert json.loads(Path("run/recipe.json").read_text())["recipe"]["precision"] == "bfloat16"
    assert "already finished" in outcome.err
    refused = call(*command, "--dtype", "float32")
    assert refused.code == 2 and "precision bfloat16, not float32" in refused.err


def test_captions_and_text_features_of_a_folder(call, tmp_path, monkeypatch):
    """The transformer is trained without encoding an image or a caption."""
    pytest.importorskip("sentencepiece")
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    for path, sentence in zip(sorted(make_images(Path("photos"), 6).glob("*.png")), SENTENCES, strict=False):
        path.with_suffix(".txt").write_text(sentence)
    make_bits_tokenizer().save_pretrained("tokenizer")
    write_t5(Path("t5"))
    command = tokenize(Path("photos"), Path("tokenizer"), "cache", "--text-encoder", "t5", "--text-tokens", 8)
    outcome = call(*command)
    assert outcome.code == 0 and "features of" in outcome.err
    assert call(*command).code == 0
    small = ["steps=2", "batch_size=2", "depth=1", "width=48", "heads=3"]
    train = ["train", "transformer", "--preset", "scenes", "--data", "cache", "--text-encoder", "t5"]
    outcome = call(*train, "--out", "run", "--set", *small, "text.words=null", "text.tokens=8")
    assert outcome.code == 0 and "training on cached tokens" in outcome.err
    assert not Path("run/text_features").exists()
    outcome = call(*train, "--out", "other", "--set", *small, "text.words=null", "text.tokens=9")
    assert outcome.code == 2 and "holds features of the text encoder" in outcome.err and "-8" in outcome.err
