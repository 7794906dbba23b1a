"""``nextscale evaluate --prompts`` and ``nextscale evaluate reader``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_prompts import save_model
from tiny_scenes import write_sprites

from nextscale.data.scenes import dataset
from nextscale.data.scenes.files import write_scenes
from nextscale.imaging.images import read_image
from nextscale.training import reader_setup


@pytest.fixture
def sprites(tmp_path) -> Path:
    return write_sprites(tmp_path / "sprites")


@pytest.fixture
def reader(call, place, sprites, monkeypatch) -> Path:
    """A reader after two steps, which sees nothing."""
    monkeypatch.setattr(reader_setup, "KINDS", {"fresh scenes": ("train", 4), "held-out combinations": ("held-out", 2)})
    monkeypatch.setattr(reader_setup, "VALIDATION", 4)
    command = ("evaluate", "reader", "--data", f"scenes:{sprites}", "--out", "reader", "--steps", 2, "--batch-size", 2)
    made = call(*command)
    assert made.code == 0, made.err
    header, *rows, folder = made.out.splitlines()
    assert header.split("  ")[-1].strip() == "held-out combinations" and folder == "reader"
    assert [row.split("  ")[0] for row in rows] == [
        "every object present",
        "count right",
        "relation right",
        "style right",
        "background right",
        "everything right",
    ]
    return Path("reader")


@pytest.fixture
def prompts(place, sprites) -> Path:
    write_scenes(sprites, "real", count=3, split="val", seed=1)
    return Path("real/scenes.jsonl")


def test_real_renders_are_read_and_reported(call, reader, prompts):
    code, out, err = call("evaluate", "--images", "real", "--prompts", prompts, "--reader", reader, "--out", "run")
    assert code == 0, err
    assert "ceiling: fresh scenes" in out and "everything right" in out
    report = json.loads(Path("run/report.json").read_text())
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    assert [result["prompt"] for result in report["results"]] == [line["prompt"] for line in lines]
    assert report["ceiling"].keys() == {"fresh scenes", "held-out combinations"}
    assert report["scores"]["counts"]["everything"] == 3 and len(report["best_of"]) == 1
    [image] = report["results"][0]["images"]
    assert image["file"] == "real/000000.png" and image["read"]["style"] in ("3d", "flat", "noto")
    assert read_image("run/failures.png").width >= 160


def test_a_model_is_sampled_resumed_and_read(call, reader, prompts):
    save_model(Path())
    command = ("evaluate", "--model", "model", "--prompts", prompts, "--reader", reader, "--out", "run", "--tries", 2)
    code, out, err = call(*command)
    assert code == 0, err
    assert "everything right in the best of n images  1: 0.0%  2: 0.0%" in out
    assert "run/tries.png" in out.splitlines() and read_image("run/tries.png").width > 200
    lines = prompts.read_text().splitlines()
    assert json.loads(Path("run/00002/metadata.jsonl").read_text()) == json.loads(lines[2])
    files = sorted(Path("run").glob("*/samples/*.png"))
    assert [str(path) for path in files[:2]] == ["run/00000/samples/00000.png", "run/00000/samples/00001.png"]
    assert len(files) == 6 and read_image(files[0]).size == (32, 32)
    pixels = [np.asarray(read_image(path)) for path in files]
    files[3].unlink()
    kept = files[0].stat().st_mtime_ns
    assert call(*command).out == out
    assert files[0].stat().st_mtime_ns == kept
    again = [np.asarray(read_image(path)) for path in files]
    assert all(np.array_equal(a, b) for a, b in zip(pixels, again, strict=True))
    other = call(*command, "--seed", 5)
    assert other.code == 2 and "holds images of prompts with seed 0, not 5" in other.err


def test_plain_prompts_only_need_a_model(call, place):
    save_model(Path())
    Path("p.txt").write_text("a dog\ntwo red cars\n")
    code, out, err = call("evaluate", "--model", "model", "--prompts", "p.txt", "--out", "run")
    assert code == 0 and out == "run\n", err
    assert json.loads(Path("run/00001/metadata.jsonl").read_text()) == {"prompt": "two red cars"}
    code, out, err = call("evaluate", "--model", "model", "--prompts", "p.txt", "--out", "guided", "--cfg", 2)
    assert code == 0, err
    default, guided = (json.loads(Path(folder, "prompts.json").read_text()) for folder in ("run", "guided"))
    assert guided == default | {"cfg": 2.0} and default["temperature"] == 0.5


def test_towers_say_how_often_an_image_finds_its_prompt(call, place, sprites, prompts, monkeypatch):
    monkeypatch.setattr(dataset, "EPOCH", 40)
    monkeypatch.setattr(dataset, "VALIDATION", 4)
    command = ("--data", f"scenes:{sprites}", "--out", "towers", "--size", 16, "--steps", 2, "--batch-size", 2)
    made = call("evaluate", "towers", *command)
    assert made.code == 0 and "of 4 images find their caption among 4" in made.out, made.err
    code, out, err = call("evaluate", "--images", "real", "--prompts", prompts, "--towers", "towers", "--out", "run")
    assert code == 0, err
    found, real, path = out.splitlines()
    assert found.startswith("retrieval: ") and found.endswith("% of 3 images find their caption among 3")
    assert real.startswith("real validation images: ") and path == "run/report.json"
    record = json.loads(Path(path).read_text())
    assert record["retrieval"]["real"]["images"] == 4 and record["retrieval"]["images"]["candidates"] == 3


def test_what_does_not_fit_is_refused(call, reader, prompts, model):
    base = ("evaluate", "--prompts", prompts, "--out", "run")
    Path("p.txt").write_text("a dog\n")
    Path("q.jsonl").write_text(prompts.read_text().splitlines()[0].replace('"style": "', '"style": "x'))
    for arguments, message in (
        ((*base, "--tries", 0), "tries must be at least 1, not 0"),
        ((*base, "--images", "real"), "--images with --prompts need --reader or --towers"),
        ((*base, "--reference", "real"), "expected --prompts or --reference, got both"),
        ((*base, "--save", "png"), "expected --prompts or --save, got both"),
        (("evaluate", "--text-encoder", "t5", "--out", "run"), "flags of the text encoder are for --prompts"),
        (("evaluate", "--tries", 2, "--out", "run"), "are for --prompts"),
        ((*base, "--model", model), "takes class labels: prompts are for text-to-image models"),
        (("evaluate", "--prompts", "p.txt", "--reader", reader, "--out", "run"), "line 1 of p.txt lacks objects"),
        (("evaluate", "--prompts", "q.jsonl", "--reader", reader, "--out", "run"), "none of the 3 that the reader"),
        ((*base, "--reader", "real"), "has no reader.json"),
        (("evaluate", "reader", "--data", "data", "--out", "r2"), "expected scenes:PATH with emoji sprites"),
    ):
        code, _, err = call(*arguments)
        assert code == 2 and message in err, (arguments, err)
