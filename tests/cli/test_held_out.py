"""Images without a validation split: every verb holds out the same ones, and runs keep what they began with."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_classifier import load_classifier
from tiny_runs import make_images, train_command

from nextscale.cli.main import main
from nextscale.data import held_out
from nextscale.evaluation import extractors
from nextscale.io.checkpoint_folder import newest_checkpoint

COUNT = 24
SHORT = ("--steps", 2, "--save-every", 1)


@pytest.fixture
def plain(place, monkeypatch) -> Path:
    """Two classes of 12 images, without splits."""
    monkeypatch.setattr(extractors, "load_classifier", load_classifier)
    (place / "judge").mkdir()
    for i, name in enumerate(("boot", "dress")):
        make_images(place / "plain" / name, COUNT // 2, seed=i, size=(16, 16))
    return place / "plain"


@pytest.fixture
def chosen(monkeypatch) -> list[frozenset[int]]:
    """The images that each verb has held out."""
    found: list[frozenset[int]] = []
    choose = held_out.choose

    def record(source, fraction):
        found.append(choose(source, fraction))
        return found[-1]

    monkeypatch.setattr(held_out, "choose", record)
    return found


def read(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def commands(model: Path, *more: object) -> dict[str, list[object]]:
    """Each verb that reads the images, by the folder or file that it writes."""
    sampled = ("evaluate", "--model", model, "--per-class", 2, "--seed", 1, "--features", "judge")
    back = ("evaluate", "--model", model, "--reconstruction", "--data", "plain", "--split", "val")
    reference = ("evaluate", "reference", "plain", "--split", "val", "--size", 8, "--features", "judge")
    classifier = ("evaluate", "classifier", "--data", "plain", "--steps", 2, "--batch-size", 4, "--size", 16)
    return {
        "tok": [*train_command("tokenizer", Path("plain"), Path("tok"), *SHORT), *more],
        "cache": ["tokenize", "--data", "plain", "--tokenizer", model, "--out", "cache", *more],
        "var": [*train_command("transformer", Path("plain"), Path("var"), "--tokenizer", model, *SHORT), *more],
        "judge-2": [*classifier, "--out", "judge-2", *more],
        "val.npz": [*reference, "--out", "val.npz", *more],
        "against": [*sampled, "--reference", "plain", "--split", "val", "--out", "against", *more],
        "copies": [*sampled, "--training", "plain", "--out", "copies", *more],
        "back": [*back, "--features", "judge", "--out", "back", *more],
    }


def test_every_verb_holds_out_the_same_images(call, plain, model, chosen):
    for out, command in commands(model).items():
        outcome = call(*command)
        assert outcome.code == 0 and Path(out).exists(), outcome.err
        said = [line for line in outcome.err.splitlines() if "--val-fraction 0" in line]
        assert len(said) == 1 and f"of its {COUNT} images are held out" in said[0], out
    count = len(chosen[0])
    assert len(chosen) == 9 and {*chosen} == {chosen[0]} and 0 < count < 6
    for run in ("tok", "var", "judge-2"):
        inputs = read(f"{run}/recipe.json")["inputs"]
        assert inputs["val_fraction"] == 0.05 and inputs["number_of_images"] == COUNT - count
        assert '"val_' in Path(run, "log.jsonl").read_text()
    assert read("cache/cache.json")["images"] == {"train": COUNT - count, "val": count}
    settings = read("copies/report.json")["settings"]
    assert settings["held_out"]["count"] == count and settings["training"]["count"] == COUNT - count
    assert read("back/report.json")["images"] == count == read("against/report.json")["reference_images"]


def test_zero_turns_it_off(call, plain, model, chosen):
    for out, command in commands(model, "--val-fraction", 0).items():
        outcome = call(*command)
        expected = 0 if out in ("tok", "cache", "var") else 2
        assert outcome.code == expected and "are held out for validation" not in outcome.err, out
    assert not chosen
    assert read("tok/recipe.json")["inputs"]["number_of_images"] == COUNT
    assert read("cache/cache.json")["images"] == {"train": COUNT}
    for words, out in (("--val-fraction 0", "judge-2"), ("no split val", "val.npz"), ("both training", "copies")):
        assert words in call(*commands(model, "--val-fraction", 0)[out]).err


def test_without_a_split_all_images_are_measured(call, plain, model, chosen):
    judge = ("--features", "judge")
    outcome = call("evaluate", "reference", "plain", "--size", 8, *judge, "--out", "all.npz")
    assert outcome.code == 0 and f"read plain: {COUNT} of {COUNT}" in outcome.err
    back = ("evaluate", "--reconstruction", "--data", "plain", "--model", model, *judge, "--out", "back")
    assert call(*back).code == 0 and read("back/report.json")["images"] == COUNT
    assert not chosen


def make_older(run: str) -> None:
    """Make recipe.json that of a version without ``--val-fraction``."""
    content = read(f"{run}/recipe.json")
    assert content["inputs"].pop("val_fraction") == 0
    Path(run, "recipe.json").write_text(json.dumps(content))


@pytest.mark.parametrize("run", ["tok", "var"])
def test_runs_of_older_versions_resume(call, plain, model, run):
    """They were trained on all images."""
    assert call(*commands(model, "--val-fraction", 0)[run]).code == 0
    make_older(run)
    newest = newest_checkpoint(Path(run))
    assert newest is not None
    shutil.rmtree(newest)
    outcome = call(*commands(model)[run])
    assert outcome.code == 0 and "resuming" in outcome.err and "held out" not in outcome.err
    outcome = call(*commands(model, "--val-fraction", 0.3)[run])
    assert outcome.code == 2 and "val_fraction 0.0, not 0.3" in outcome.err


@pytest.mark.parametrize("run", ["tok", "var", "judge-2"])
def test_runs_of_older_versions_with_splits_resume(call, plain, model, run):
    command = [*commands(model)[run], "--data", "data"]
    assert call(*command).code == 0
    make_older(run)
    for more in ((), ("--val-fraction", 0.3)):
        outcome = call(*command, *more)
        assert outcome.code == 0 and "finished" in outcome.err and "held out" not in outcome.err


@pytest.mark.parametrize("run", ["tok", "var", "judge-2"])
def test_a_run_keeps_its_fraction(call, plain, model, run):
    assert call(*commands(model, "--val-fraction", 0.3)[run]).code == 0
    command = commands(model)[run]
    outcome = call(*command)
    assert outcome.code == 0 and "(0.3 of all" in outcome.err and "finished" in outcome.err
    outcome = call(*command, "--val-fraction", 0.05)
    assert outcome.code == 2 and "val_fraction 0.3, not 0.05" in outcome.err


def test_a_cache_keeps_its_fraction(call, plain, model):
    command = commands(model)["cache"]
    for fraction in (0, 0.3):
        assert call(*command, "--val-fraction", fraction).code == 0
        before = Path("cache/cache.json").read_bytes()
        assert (b"val_fraction" in before) == (fraction > 0)  # without it, it is that of an older version
        os.remove("cache/train/tokens-00000.safetensors")
        assert call(*command).code == 0 and Path("cache/cache.json").read_bytes() == before
        outcome = call(*command, "--val-fraction", 0.1)
        assert outcome.code == 2 and f"val_fraction {fraction}, not 0.1" in outcome.err
        run = train_command("transformer", Path("cache"), Path(f"run-{fraction}"), *SHORT)
        assert call(*run).code == call(*run, "--val-fraction", fraction).code == 0
        outcome = call(*run, "--val-fraction", 0.1)
        assert outcome.code == 2 and f"holds out {fraction} of its images, not 0.1" in outcome.err
        shutil.rmtree("cache")


@pytest.mark.parametrize("data", ["plain", "cache"])
def test_an_evaluation_divides_the_images_as_the_run_of_the_model_did(call, plain, model, data):
    """Directly or in a cache."""
    assert call(*commands(model, "--val-fraction", 0.3)["cache"]).code == 0
    more = ("--data", data) if data == "cache" else ("--val-fraction", 0.3)
    assert call(*commands(model)["var"], *more).code == 0
    assert call(*commands(Path("var"))["copies"]).code == 0
    settings = read("copies/report.json")["settings"]
    assert settings["training"]["val_fraction"] == settings["held_out"]["val_fraction"] == 0.3
    count = settings["held_out"]["count"]
    assert count == read("cache/cache.json")["images"]["val"]
    if data == "plain":
        for out in ("against", "back"):
            assert call(*commands(Path("var"))[out]).code == 0
        assert read("against/report.json")["reference_images"] == count == read("back/report.json")["images"]


def test_images_that_a_run_was_trained_on_are_not_held_out(call, plain, model):
    assert call(*commands(model, "--val-fraction", 0)["var"]).code == 0
    outcome = call(*commands(Path("var"))["copies"])
    assert outcome.code == 2 and "both training and held out" in outcome.err
    outcome = call(*commands(Path("var"))["against"])
    assert outcome.code == 2 and "no split val" in outcome.err
    given = call(*commands(Path("var"), "--held-out", "photos")["copies"])
    assert given.code == 0 and "held out for" not in given.err


def test_what_is_skipped_is_said_once(call, plain, model):
    make_images(plain / "__MACOSX", 1)
    (plain / "boot" / "0.heic").touch()
    (plain / "hat").mkdir()
    for out in ("cache", "copies", "back"):
        err = call(*commands(model)[out]).err
        for words in ("system files (1): __MACOSX", "(1: .heic 1): boot/0.heic", "classes without images (1): hat"):
            assert err.count(words) == 1, err


def call_in_bytes(monkeypatch, command: list[object]) -> tuple[int, bytes, bytes]:
    """Call the command line; (exit code, standard output, standard error)."""
    code, streams = 0, [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with monkeypatch.context() as patch:
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        try:
            main([str(word) for word in command])
        except SystemExit as stop:
            code = int(stop.code or 0)
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    return code, out, err


NAME = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf8(plain, model, monkeypatch):
    """Data, classes and images with such names can be trained on and measured."""
    plain = plain.rename(plain.parent / NAME)
    (plain / "boot").rename(plain / NAME)
    for path in (plain / "dress").iterdir():
        path.rename(path.with_name(f"{NAME}{path.name}"))
    (plain / "dress" / f"{NAME}.png").write_bytes(b"no image")
    for out, command in commands(model, "--val-fraction", 0.2).items():
        code, _, err = call_in_bytes(monkeypatch, [NAME if word == "plain" else word for word in command])
        assert code == 0 and Path(out).exists() and rb"caf\xe9 has no validation images" in err, err
    classes = [r"caf\xe9", "dress"]
    assert read("var/recipe.json")["inputs"]["classes"] == read("cache/cache.json")["class_names"] == classes
    make_images(Path(f"{NAME}-2", NAME), 5, size=(8, 8))
    images = ["evaluate", "--images", f"{NAME}-2", "--features", "judge", "--out", "measured"]
    assert call_in_bytes(monkeypatch, [*images])[0] == 0
    sample = ["sample", "--model", "var", "--labels", classes[0], "--out", f"{NAME}.png"]
    assert call_in_bytes(monkeypatch, [*sample])[:2] == (0, b"caf\xe9.png\n")


@pytest.mark.parametrize("out", ["tok", "cache", "judge-2", "copies"])
def test_folders_whose_names_are_not_utf8_are_refused_before_anything_is_done(plain, model, monkeypatch, out):
    """Files of tensors could not be read in them."""
    command = [NAME if word == out else word for word in map(str, commands(model)[out])]
    code, _, err = call_in_bytes(monkeypatch, [*command])
    assert code == 2 and rb"caf\xe9" in err and b"not UTF-8" in err
    assert not Path(NAME).exists()
