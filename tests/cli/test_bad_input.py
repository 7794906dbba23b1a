"""Bad input: exit code 2, one sentence, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SAMPLE = "sample --model {model} "
RECONSTRUCT = "reconstruct --model {model} "
TOKENIZER = "train tokenizer --preset tiny --data data --out run "
VAR = "train var --preset tiny --data data --out run --tokenizer {model} "

BAD_INPUT = {
    # sampling
    SAMPLE + "--labels zebra": "zebra",
    SAMPLE + "--labels hta": "hat",
    SAMPLE + "--labels 5 --num-images 2 --out new/a.png": "5",
    SAMPLE + "--labels 99": "99",
    SAMPLE + "--labels=-1": "-1",
    SAMPLE + "--labels ²": "²",
    SAMPLE + "--labels 0 1 2 --num-images 2": "3 labels",
    SAMPLE + "--cfg nan": "nan",
    SAMPLE + "--cfg inf": "inf",
    SAMPLE + "--top-p 1.5": "1.5",
    SAMPLE + "--top-p -0.1": "-0.1",
    SAMPLE + "--top-k -1": "-1",
    SAMPLE + "--num-images 0": "num-images",
    SAMPLE + "--num-images -3": "-3",
    SAMPLE + "--seed 99999999999999999999999": "seed",
    SAMPLE + "--device tpu": "tpu",
    SAMPLE + "--device cuda:99": "cuda:99",
    SAMPLE + "--dtype float16 --device cpu": "float16",
    # models
    "sample --model nowhere": "nowhere",
    "sample --model photos": "photos",
    "sample --model empty": "empty",
    "sample --model page.pth,page.pth": "HTML",
    "sample --model page.pth": "HTML",
    "sample --model text.pth": "text.pth",
    "sample --model page.pth,missing.pth": "page.pth",
    "sample --model missing.pth": "missing.pth",
    "sample --model truncated": "complete",
    "sample --model otherconfig": "config.json",
    "sample --model {model}/tokenizer": "alone",
    "sample --model FoundationVision/var:d99": "d99",
    "sample --model page.pth,page.pth --scales 1,two": "two",
    "info nowhere": "nowhere",
    # output
    SAMPLE + "--out file/a.png": "file",
    SAMPLE + "--out folder.png": "folder",
    SAMPLE + "--out a.xyz": ".xyz",
    SAMPLE + "--out a": "extension",
    RECONSTRUCT + "photos/0.png --out file/a.png": "file",
    RECONSTRUCT + "photos/0.png --out folder.png": "folder",
    "convert --model {model} --out file": "file",
    "convert --model {model} --out file/a": "file",
    "convert --model nowhere --out new": "nowhere",
    # reconstruction
    RECONSTRUCT + "missing.png": "missing.png",
    RECONSTRUCT + "photos/0.png broken/0.png": "broken/0.png",
    RECONSTRUCT + "photos": "photos",
    # training
    TOKENIZER + "--data empty": "no images",
    TOKENIZER + "--data nowhere": "nowhere",
    TOKENIZER + "--data file": "file",
    TOKENIZER + "--data=": "no data",
    TOKENIZER + "--data nowhere.csv": "nowhere.csv",
    TOKENIZER + "--data labels.csv": "no column",
    TOKENIZER + "--data nowhere.tar": "nowhere.tar",
    TOKENIZER + "--data truncated.tar": "not a complete",
    TOKENIZER + "--data hf:": "hf:",
    TOKENIZER + "--data hf:nowhere": "cannot load hf:nowhere",
    TOKENIZER + "--data broken --batch-size 2": "none of the 2",
    TOKENIZER + "--data brokenval": "none of the 1",
    TOKENIZER + "--batch-size 11": "11",
    TOKENIZER + "--batch-size 0": "batch_size",
    TOKENIZER + "--steps 0": "steps",
    TOKENIZER + "--seed -1": "seed",
    TOKENIZER + "--learning-rate nan": "learning_rate",
    TOKENIZER + "--learning-rate 0": "learning_rate",
    TOKENIZER + "--log-every -1": "log_every",
    TOKENIZER + "--workers -1": "workers",
    TOKENIZER + "--preset huge": "huge",
    TOKENIZER + "--device tpu": "tpu",
    TOKENIZER + "--out file": "file",
    TOKENIZER + "--out file/run": "file",
    TOKENIZER + "--data emptyclasses": "classes without images (2): dress, hat",
    TOKENIZER + "--accumulate 3": "batch of 4",
    TOKENIZER + "--accumulate 0": "accumulate",
    TOKENIZER + "--validate-images -1": "validate_images",
    TOKENIZER + "--steps 3 --epochs 2": "both",
    TOKENIZER + "--epochs 0": "epochs",
    TOKENIZER + "--epochs nan": "epochs",
    TOKENIZER + "--epochs inf": "epochs",
    TOKENIZER + "--dtype float16": "float16",
    TOKENIZER + "--compare nowhere": "nowhere",
    TOKENIZER + "--init-from nowhere": "nowhere",
    TOKENIZER + "--set colour=1": "colour",
    TOKENIZER + "--set l1": "name=value",
    TOKENIZER + "--set model.schedule=1,4,2": "larger than the last",
    TOKENIZER + "--set model.schedule=1,two": "two",
    TOKENIZER + "--set betas=[2,3]": "betas",
    TOKENIZER + "--set schedule=exp final_ratio=0": "final_ratio",
    TOKENIZER + "--set lpips=0.5": "vgg_weights",
    TOKENIZER + "--set lpips=0.5 vgg_weights=vgg.pth lpips_weights=lin.pth": "vgg.pth",
    TOKENIZER + "--set adversarial.critic=dino": "dino_weights",
    TOKENIZER + "--set adversarial.critic=dino adversarial.dino_weights=dino.pth": "dino.pth",
    TOKENIZER + "--set adversarial.weight=0.4": "24 pixels",
    TOKENIZER + '--set freeze=["coder.*"]': "coder",
    TOKENIZER + '--set freeze=["*"]': "no parameter to train",
    VAR + "--data broken --batch-size 2": "none of the 2",
    VAR + "--data unknownclass": "zebra",
    VAR + "--batch-size 11": "11",
    VAR + "--steps 0": "steps",
    VAR + "--preset huge": "huge",
    VAR + "--tokenizer nowhere": "nowhere",
    VAR + "--tokenizer photos": "photos",
    VAR + "--log-every -1": "log_every",
    VAR + "--out file/run": "file",
    VAR + "--data emptyclasses": "classes without images (2): dress, hat",
    VAR + "--accumulate 3": "batch of 4",
    VAR + "--steps 3 --epochs 2": "both",
    VAR + "--dtype float16": "float16",
    VAR + "--compare nowhere": "nowhere",
    VAR + "--set colour=1": "colour",
    VAR + "--set adversarial.weight=1": "adversarial",
    VAR + "--set heads=3": "heads",
    VAR + '--set freeze=["block.*"]': "block",
    VAR + "--set lora=2": "--init-from",
    VAR + "--set lora=2 --init-from {model} --strategy fsdp": "ddp",
    VAR + "--set lora=128 --init-from {model}": "rank",
    VAR + "--init-from nowhere": "nowhere",
    "train var --preset tiny --data data --out run": "--tokenizer",
}

NOT_PARSED = [
    "sample --frobnicate",
    "sample --cfg strong",
    "sample --top-k 1.5",
    "sample --dtype float8",
    "reconstruct",
    "convert",
    "convert --out new --to onnx",
    "train tokenizer --data data",
    "train tokenizer --data data --out run --steps many",
]


@pytest.fixture
def place(place, model) -> Path:
    """With everything that can be wrong."""
    (place / "empty").mkdir()
    (place / "file").touch()
    (place / "folder.png").mkdir()
    (place / "page.pth").write_text("<!DOCTYPE html><html></html>")
    (place / "text.pth").write_text("weights")
    (place / "labels.csv").write_text("image,kind\n")
    (place / "truncated.tar").write_bytes(b"photo")
    for name in ("broken/0.png", "broken/1.png", "brokenval/val/a/0.png", "unknownclass/val/zebra/0.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"no image")
    for name in ("brokenval/train/a", "unknownclass/train/a"):
        shutil.copytree(place / "data" / "train" / "dress", place / name)
    for name in ("hat", "dress"):
        (place / "emptyclasses" / name).mkdir(parents=True)
    for name in ("truncated", "otherconfig"):
        shutil.copytree(model, place / name)
    weights = place / "truncated" / "transformer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (place / "otherconfig" / "transformer" / "config.json").write_text("{")
    return place


def everything(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "word"), BAD_INPUT.items(), ids=BAD_INPUT)
def test_one_sentence_and_nothing_written(call, place, model, command, word):
    before = everything(place)
    code, out, err = call(*command.format(model=model).split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err
    assert word in err
    assert everything(place) == before


@pytest.mark.parametrize("command", NOT_PARSED)
def test_what_cannot_be_parsed(call, place, command):
    before = everything(place)
    code, out, err = call(*command.split())
    assert code == 2
    assert "Traceback" not in out + err
    assert everything(place) == before


@pytest.mark.parametrize("name", ["FoundationVision/var:d16", "d30"])
def test_no_network(call, place, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "empty"))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    before = everything(place)
    code, out, err = call("sample", "--model", name)
    assert code == 2 and not out
    assert err.count("\n") == 1 and "network" in err
    assert everything(place) == before


def test_an_interrupt_leaves_without_a_traceback(call, place, model, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nextscale.cli.sample.wanted_and_count", interrupt)
    code, out, err = call("sample", "--model", model)
    assert code == 130 and not out and not err
