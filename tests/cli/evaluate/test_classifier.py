"""``nextscale evaluate classifier``."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tiny_runs import make_images

from nextscale.data.splits import open_splits
from nextscale.evaluation.classifier import load_classifier, save_classifier
from nextscale.evaluation.features import ClassifierExtractor
from nextscale.imaging.psnr_ssim import to_levels
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.training.classifier_task import ClassifierTask

COMMAND = ("evaluate", "classifier", "--data", "data", "--out", "c", "--steps", 3, "--batch-size", 4, "--size", 16)


def answers(extractor: ClassifierExtractor) -> list[tuple[int, int]]:
    """(label, answer) of each held-out image."""
    _, held_out = open_splits("data", (16, 16), 0)
    assert held_out is not None
    examples = [held_out[0, i] for i in range(len(held_out))]
    images = to_levels(torch.stack([example.image for example in examples])).byte()
    probabilities = extractor(images).probabilities
    assert probabilities is not None
    return [(e.label, int(a)) for e, a in zip(examples, probabilities.argmax(1), strict=True)]


def test_it_prints_the_accuracy_that_it_stores(call, place):
    shutil.rmtree(place / "data/val/dress")
    code, out, err = call(*COMMAND)
    assert code == 0 and "ETA" in err and "2 classes" in err
    extractor = load_classifier(Path("c"))
    assert extractor.class_names == ("boot", "dress") and extractor.size == (16, 16)
    right = [label == answer for label, answer in answers(extractor)]
    assert len(right) == 2 and extractor.accuracy == sum(right) / 2
    boots, dresses, everything, folder = out.splitlines()
    assert boots.split() == ["boot", f"{sum(right) / 2:.1%}", "of", "2"]
    assert dresses.split() == ["dress", "none", "of", "0"]
    assert everything.split()[-3:] == [f"{extractor.accuracy:.1%}", "of", "2"] and folder == "c"


def test_again_it_is_finished_and_with_its_seed_the_same(call, place):
    first = call(*COMMAND)
    assert first.code == 0
    prints = {load_classifier(Path("c")).fingerprint}
    again = call(*COMMAND)
    assert again.code == 0 and again.out == first.out and "finished" in again.err
    for seed in (0, 1):
        assert call(*COMMAND, "--seed", seed, "--out", f"c{seed}").code == 0
        prints.add(load_classifier(Path(f"c{seed}")).fingerprint)
    assert len(prints) == 2


def test_a_copy_without_the_run(call, place):
    assert call(*COMMAND, "--size", 16, 20).code == 0
    ours = load_classifier(Path("c"))
    assert ours.size == (16, 20)
    save_classifier(Path("copy"), ours.classifier, ours.class_names, ours.accuracy)  # type: ignore[arg-type]
    assert sorted(path.name for path in Path("copy").iterdir()) == [
        "classifier.json",
        "config.json",
        "model.safetensors",
    ]
    theirs = load_classifier(Path("copy"))
    assert (theirs.fingerprint, theirs.accuracy) == (ours.fingerprint, ours.accuracy)


def test_stopped_on_the_way_it_is_no_classifier_yet(call, place, monkeypatch):
    works = ClassifierTask.losses

    def stop(task, batch, step, generator):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return works(task, batch, step, generator)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTask, "losses", stop)
        code, out, err = call(*COMMAND)
    newest = newest_checkpoint(Path("c"))
    assert code == 0 and not out and "stopped: saved" in err
    assert newest is not None and newest.name == "step-00000002" and not Path("c/classifier.json").exists()
    assert "resuming" in call(*COMMAND).err
    whole = call(*COMMAND, "--out", "whole")
    assert whole.code == 0
    assert load_classifier(Path("c")).fingerprint == load_classifier(Path("whole")).fingerprint


def test_it_goes_on_in_the_precision_that_it_began_in(call, place, monkeypatch):
    for fast in (True, False):
        monkeypatch.setattr("nextscale.training.recipes.has_fast_bfloat16", lambda device, fast=fast: fast)
        assert call(*COMMAND).code == 0


BAD = {
    "--data nowhere": "nowhere",
    "--data data/train --val-fraction 0": "validation",
    "--data single --batch-size 2": "every class has one image only",
    "--data data/train --val-fraction nan": "val_fraction",
    "--data oneclass": "one class, boot",
    "--data data/val --batch-size 2 --val-fraction 0": "validation",
    "--data data/train --batch-size 10": "batch of 10 images is larger than the data: 9 in data/train, besides 1 held",
    "--batch-size 11": "batch of 11",
    "--batch-size 1": "batch_size",
    "--steps 0": "steps",
    "--seed -1": "seed",
    "--size 0": "size",
    "--size 15": "16 pixels",
    "--size 8 8 8": "size",
    "--out file": "file",
    "--out file/c": "file",
    "--out data/train/c": "must not lie in the data",
    "--out locked/c": "locked",
    "--out model": "holds a model",
    "--device tpu": "tpu",
    "--dtype float16 --device cpu": "float16",
    "--data brokenval": "none of the 1",
}


@pytest.mark.parametrize("change", BAD)
def test_one_sentence_and_nothing_written(call, place, change):
    (place / "file").touch()
    (place / "locked").mkdir(mode=0o555)
    (place / "model").mkdir()
    (place / "model" / "config.json").write_text("{}")
    make_images(place / "single" / "boot", 1)
    make_images(place / "single" / "dress", 1)
    make_images(place / "oneclass" / "train" / "boot", 4)
    make_images(place / "oneclass" / "val" / "boot", 4)
    shutil.copytree(place / "data", place / "brokenval")
    shutil.rmtree(place / "brokenval/val/dress")
    (place / "brokenval/val/boot/1.png").unlink()
    (place / "brokenval/val/boot/0.png").write_bytes(b"no image")
    before = sorted(place.rglob("*"))
    if "locked" in change and os.access(place / "locked", os.W_OK):
        pytest.skip("root may write anywhere")
    code, out, err = call(*COMMAND, *change.split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and BAD[change] in err
    assert sorted(place.rglob("*")) == before


def test_another_run_in_its_folder(call, place):
    assert call(*COMMAND).code == 0
    code, _, err = call(*COMMAND, "--steps", 4)
    assert code == 2 and "steps 3, not 4" in err
    assert load_classifier(Path("c")).class_names == ("boot", "dress")
