"""What ``nextscale evaluate`` and related verbs refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import make_images

BAD_INPUT = {
    "--features nowhere.pth": "https://github.com/",
    "--features= ": "https://github.com/",
    "--reference nowhere.npz": "nowhere.npz",
    "--reference photos/none": "photos/none",
    "--reference photos --split val": "photos (val) has 1 image: a reference needs at least 2",
    "--reference large.npz": "16 x 16 pixels, not 8 x 8",
    "--reference other.npz": "made with other",
    "--reference keys.npz": "expected mu and sigma",
    "--images empty": "no images",
    "--images mixed": "one size",
    "--images nowhere": "nowhere",
    "--images keys.npz": "no arr_0",
    "--images large": "8 x 8 pixels, not 16 x 16",
    "--per-class 0": "per-class",
    "--num-images 5": "--num-images or --per-class, got both",
    "--reference keys.npz --model nowhere": "expected mu and sigma",
    "--batch-size 0": "batch-size",
    "--seed -1": "seed",
    "--cfg nan": "cfg",
    "--top-p 2": "top-p",
    "--out file": "file",
    "--held-out data": "--training",
    "--training nowhere": "nowhere",
    "--training real --val-fraction -0.5": "val_fraction",
    "--reconstruction": "--data",
    "--data data": "--reconstruction",
    "--reconstruction --data nowhere": "nowhere",
    "--reconstruction --data data --images real": "both",
    "--reconstruction --data data --save png": "nothing is sampled",
    "--reconstruction --data data --dtype int8": "int8 is for sampling",
    "--reconstruction --data data --training data": "both",
    "--reconstruction --data data --lpips-weights a.pth": "--vgg-weights",
    "--reconstruction --data data --vgg-weights none.pth": "none.pth",
    "--vgg-weights a.pth": "--reconstruction",
    "--images real --save npz": "nothing is sampled",
    "--model nowhere": "nowhere",
}
BAD_REFERENCES = {
    "nowhere --size 8": "nowhere",
    "data --size 8": "--split train or --split val",
    "real --size 0": "size",
    "real --size 1 2 3": "size",
    "real --size 8 --out ref.txt": ".npz",
    "real --size 8 --out file/ref.npz": "file",
    "real --size 8 --batch-size 0": "batch-size",
    "real --size 8 --split val --val-fraction 0": "no split val",
    "real --size 8 --split val --val-fraction 1": "val_fraction must be at least 0 and below 1, not 1",
    "real --size 8 --val-fraction 0.5": "--split train or --split val",
    "broken --size 8": "none of the 1",
    "real --size 8 --features nowhere.pth": "https://github.com/",
}


@pytest.fixture
def wrong(evaluate, place, monkeypatch) -> None:
    """Everything that can be wrong."""
    monkeypatch.setenv("TORCH_HOME", str(place / "nothing"))
    (place / "file").touch()
    (place / "empty").mkdir()
    make_images(place / "mixed", 2, size=(8, 8))
    Image.new("RGB", (9, 8)).save(place / "mixed" / "9.png")
    make_images(place / "large", 2, size=(16, 16))
    (place / "broken").mkdir()
    (place / "broken" / "0.png").write_bytes(b"no image")
    np.savez(place / "keys.npz", mean=np.zeros(3))
    with np.load("ref.npz") as file:
        arrays = dict(file)
    for name, change in (("large.npz", {"size": [16, 16]}), ("other.npz", {"extractor": "other"})):
        meta = np.array(json.dumps(json.loads(str(arrays["meta"])) | change))
        np.savez(place / name, **(arrays | {"meta": meta}))  # type: ignore[arg-type]


def everything(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("flags", "word"), BAD_INPUT.items(), ids=BAD_INPUT)
def test_one_sentence_and_nothing_written(evaluate, wrong, place, flags, word):
    before = everything(place)
    outcome = evaluate(*flags.split())
    assert outcome.code == 2 and not outcome.out and word in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("nextscale: ")]) == 1
    assert everything(place) == before


@pytest.mark.parametrize(("flags", "word"), BAD_REFERENCES.items(), ids=BAD_REFERENCES)
def test_references_that_cannot_be_made(call, wrong, place, flags, word):
    outcome = call("evaluate", "reference", "--features", "classifier", "--out", "new.npz", *flags.split())
    assert outcome.code == 2 and not outcome.out and word in outcome.err
    assert not Path("new.npz").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    {"--cfg 1 1": "twice", "--top-k": "at least one", "--cfg nan": "cfg", "--top-p 2": "top-p"}.items(),
)
def test_sweeps_that_cannot_be_made(call, place, model, flags, word):
    outcome = call("evaluate", "sweep", "--model", model, "--features", "classifier", "--out", "sweep", *flags.split())
    assert outcome.code == 2 and word in outcome.err and not Path("sweep").exists()
