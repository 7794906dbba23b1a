"""``nextscale evaluate`` and related verbs, with a tiny model and a tiny classifier."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_classifier
import torch
from PIL import Image, ImageOps
from tiny_classifier import ACCURACY, TinyClassifier
from tiny_evaluation import LOOK, figures, report
from tiny_runs import make_images

import nextscale as ns
from nextscale.data.dataset import validation_crop
from nextscale.evaluation import store
from nextscale.evaluation.features import Features
from nextscale.evaluation.frechet import frechet_distance
from nextscale.evaluation.inception import CLASSES, POOL, SPATIAL
from nextscale.evaluation.reference import read_reference
from nextscale.evaluation.statistics import Moments
from nextscale.galleries.dataset import open_crops
from nextscale.imaging.images import adm_crop
from nextscale.runtime.device import has_fast_int8


def test_a_model_against_a_reference(evaluate, model):
    outcome = evaluate("--seed", 4, "--cfg", 2, "--batch-size", 4)
    assert outcome.code == 0
    found = report()
    pipeline, look = ns.Pipeline.from_pretrained(model), TinyClassifier()
    drawn = pipeline([i // 3 for i in range(15)], cfg=2, top_k=900, top_p=0.96, seed=[4 + i for i in range(15)]).images
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in drawn])
    features, reference = look(pixels), read_reference(Path("ref.npz"))
    assert reference.gaussian and features.probabilities is not None
    moments = Moments(tiny_classifier.DIMENSIONS).add(features.pool)
    assert found["fid"] == pytest.approx(frechet_distance(moments.gaussian(), reference.gaussian), rel=1e-6)
    right = features.probabilities.argmax(1) == torch.arange(15) // 3
    assert found["agreement"]["overall"] == pytest.approx(right.double().mean().item())
    assert found["agreement"]["real"] == ACCURACY and "(the classifier's validation images: 0.750)" in outcome.out
    assert found["images"] == 15 and found["reference_images"] == 12 and found["seed"] == 4
    assert found["settings"]["cfg"] == 2 and found["settings"]["batch_size"] == 4 and found["seconds_of_last_call"] > 0
    assert found["reference_crop"] == "centre" and found["extractor"] == "tiny classifier"
    assert (
        "against ref.npz, 12 images, centre crop" in outcome.out
        and "as one part" in outcome.out
        and "run/report.json" in outcome.out
    )
    assert "sampled 15 of 15" in outcome.err


@pytest.mark.parametrize("batch_size", [1, 2, 5, 50])
def test_the_batch_size_makes_no_difference(evaluate, batch_size):
    for out, size in (("a", 4), ("b", batch_size)):
        assert evaluate("--batch-size", size, out=out).code == 0
    assert figures("b")["agreement"] == figures("a")["agreement"]
    assert figures("b")["fid"] == pytest.approx(figures("a")["fid"], rel=1e-5)


def test_killed_halfway_and_run_again(evaluate, monkeypatch):
    assert evaluate(out="a").code == 0
    write, written = store.write_tensors, []

    def killed(path, tensors):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, tensors)

    monkeypatch.setattr(store, "write_tensors", killed)
    assert evaluate(out="b").code == 130 and not Path("b/report.json").exists()
    monkeypatch.setattr(store, "write_tensors", write)
    again = evaluate(out="b")
    assert again.code == 0 and "sampled 5 of 5" in again.err
    assert figures("a") == figures("b")


def test_finished_and_run_again(evaluate):
    assert evaluate("--save", "png").code == 0
    before = figures()
    Path("run/images/hat/000006.png").unlink()
    assert "sampled" in evaluate("--save", "png").err and figures() == before
    assert Path("run/images/hat/000006.png").is_file()
    assert "sampled" not in evaluate("--save", "png").err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--cfg", 3), "cfg 1.5, not 3.0"),
        (("--seed", 3), "seed 0, not 3"),
        (("--per-class", 4), "count 15, not 20"),
        (("--dtype", "bfloat16"), "dtype float32, not bfloat16"),
        (("--model", "starter"), "weights"),
    ],
)
def test_another_command_in_the_same_folder(evaluate, change, words):
    assert evaluate().code == 0
    before = report()
    outcome = evaluate(*change, *(("--reference", "") if "starter" in change else ()))
    assert outcome.code == 2 and words in outcome.err and "holds features with" in outcome.err
    assert outcome.err.count("\n") == 1 and report() == before


@pytest.mark.parametrize("kind", ["png", "npz"])
def test_saved_images_give_the_same_figures(evaluate, call, kind):
    assert evaluate("--save", kind).code == 0
    place = "run/images.npz" if kind == "npz" else "run/images"
    outcome = call(*f"evaluate --images {place} --reference ref.npz --features classifier --out files".split())
    assert outcome.code == 0
    ours, theirs = figures(), figures("files")
    assert theirs["fid"] == pytest.approx(ours["fid"], rel=1e-9)
    assert theirs["precision_recall"] == ours["precision_recall"]
    assert theirs["agreement"] == ours["agreement"] is not None


def test_a_folder_of_real_images_as_reference(evaluate, call):
    assert evaluate(out="a").code == 0
    outcome = evaluate("--reference", "real", out="b")
    assert outcome.code == 0 and "read real: 12 of 12" in outcome.err and "real is not an .npz file" in outcome.err
    assert figures("a") == figures("b")
    assert "has both train and val" in evaluate("--reference", "data", out="c").err
    assert evaluate("--reference", "data", "--split", "val", out="c").code == 0
    assert report("c")["reference_images"] == 4


def test_a_reference_is_what_its_images_are(evaluate):
    reference = read_reference(Path("ref.npz"))
    assert reference.origin and reference.origin.size == (8, 8) and reference.origin.crop == "centre"
    assert reference.features is not None and len(reference.features) == 12
    assert not Path("ref-features").exists()


def test_a_killed_reference_goes_on(call, place, monkeypatch):
    command = ("evaluate", "reference", "real", "--size", 8, *LOOK, "--seed", 3, "--out", "ref.npz")
    assert call(*command).code == 0
    expected = Path("ref.npz").read_bytes()
    Path("ref.npz").unlink()
    write = store.write_tensors

    def killed(path, tensors):
        if "00001" in path.name:
            raise KeyboardInterrupt
        write(path, tensors)

    monkeypatch.setattr(store, "write_tensors", killed)
    assert call(*command).code == 130
    monkeypatch.setattr(store, "write_tensors", write)
    assert "7 of 7" in call(*command).err
    assert Path("ref.npz").read_bytes() == expected and not Path("ref-features").exists()


def test_memorisation(evaluate):
    outcome = evaluate("--training", "data")
    assert outcome.code == 0 and "are unusually close to a training image" in outcome.out
    assert "Of 10 known copies (training images, cropped at random, mirrored" in outcome.out
    found = report()["memorisation"]
    assert len(found["pairs"]) == 15 and found["pairs"] == sorted(found["pairs"], key=lambda pair: pair[2])
    assert "reconstructed by the tokenizer" in outcome.out
    assert all(0 <= number < 10 for _, number, _ in found["pairs"])
    assert report()["settings"]["control"]["tokenizer"] and report()["settings"]["held_out"]["crop"] == "centre"
    assert report()["settings"]["training"]["split"] == "train" and report()["settings"]["held_out"]["split"] == "val"
    with Image.open("run/closest.png") as image:
        assert image.width > 4 * 2 * 8


@pytest.mark.parametrize("turn", [lambda image: image, ImageOps.mirror], ids=["as they are", "mirrored"])
@pytest.mark.parametrize("crop", ["centre", "training"])
def test_training_images_are_found_among_drawn_ones(call, place, crop, turn):
    """The training images themselves, as if they were drawn: in either crop, mirrored or not."""
    for name in ("boot", "dress"):
        shutil.copytree(f"data/train/{name}", f"copies/{name}")
    for path in Path("copies").rglob("*.png"):
        with Image.open(path) as image:
            small = turn({"centre": adm_crop, "training": validation_crop}[crop](image, (8, 8)))
        small.save(path)
    more = ("--training", "data", "--out", "run")
    assert call("evaluate", "--images", "copies", *LOOK, *more).code == 0
    found = report()["memorisation"]
    assert found["share"] == 1 and all(i == j and distance < 1e-3 for i, j, distance in found["pairs"])


def test_in_int8(evaluate):
    if not has_fast_int8(torch.device("cpu")):
        pytest.skip("this machine multiplies no int8")
    assert evaluate("--training", "data", "--dtype", "int8").code == 0
    settings = report()["settings"]
    assert settings["dtype"] in ("int8-float32", "int8-bfloat16")
    assert settings["dtype"] == f"int8-{settings['control']['dtype']}"


def test_nothing_held_out(evaluate):
    outcome = evaluate("--training", "real", "--val-fraction", 0)
    assert outcome.code == 2 and "both training and held out" in outcome.err


def test_reconstruction(call, place, model):
    command = ("evaluate", "--model", model, "--reconstruction", "--data", "data", "--features", "classifier")
    outcome = call(*command, "--out", "run")
    assert outcome.code == 0 and "rFID" in outcome.out and "perplexity" in outcome.out and "4x4" in outcome.out
    found = report()
    assert found["images"] == found["reference_images"] == 4 and found["settings"]["split"] == "val"
    assert found["fid"] > 0 and len(found["reconstruction"]["scales"]) == 4 and found["reconstruction"]["lpips"] is None
    assert call(*command, "--split", "train", "--out", "train").code == 0 and report("train")["images"] == 10


def test_reconstruction_against_a_reference_of_the_same_crop(call, place, model):
    make = "evaluate reference data --split val --size 8 --features classifier --out ref.npz"
    assert call(*make.split()).code == 0
    command = ("evaluate", "--model", model, "--reconstruction", "--data", "data", "--features", "classifier")
    assert call(*command, "--out", "a").code == call(*command, "--reference", "ref.npz", "--out", "b").code == 0
    assert report("a")["fid"] == report("b")["fid"]
    outcome = call(*command, "--reference", "ref.npz", "--crop", "training", "--out", "c")
    assert outcome.code == 2 and "'centre'" in outcome.err and "'training'" in outcome.err


def test_the_crop_is_that_of_the_reference_file(evaluate, call):
    """Whatever is measured; another one is refused, even if nothing is cropped."""
    assert call("evaluate", "reference", "real", "--size", 8, *LOOK, "--crop", "training", "--out", "ref.npz").code == 0
    outcome = evaluate("--crop", "centre")
    assert outcome.code == 2 and "'training', not 'centre'" in outcome.err and not Path("run").exists()
    outcome = evaluate("--training", "data")
    assert outcome.code == 0 and "12 images, training crop" in outcome.out
    assert report()["settings"]["held_out"]["crop"] == "training"
    assert evaluate("--reconstruction", "--data", "data", "--per-class", 50, out="back").code == 0
    assert report("back")["settings"]["crop"] == "training"


def test_a_data_set_says_its_crop(evaluate):
    assert "12 images, centre crop" in evaluate("--reference", "real", out="a").out
    assert "12 images, training crop" in evaluate("--reference", "real", "--crop", "training", out="b").out


def test_agreement_of_real_images_is_measured_where_they_have_classes(evaluate, call, place):
    """Folders named as the classes that the classifier knows."""
    for i, name in enumerate(tiny_classifier.CLASSES):
        make_images(place / "known" / name, 3, seed=i)
    assert call("evaluate", "reference", "known", "--size", 8, *LOOK, "--out", "known.npz").code == 0
    shares = []
    for i, reference in enumerate(("known", "known.npz")):
        outcome = evaluate("--reference", reference, out=str(i))
        assert outcome.code == 0 and "(the reference's images: " in outcome.out
        shares.append(report(str(i))["agreement"]["real"])
    pixels = open_crops("known", None, (8, 8), "centre", print).read(range(15)).pixels
    probabilities = TinyClassifier()(pixels).probabilities
    assert probabilities is not None
    right = probabilities.argmax(1) == torch.arange(15) // 3
    assert shares == pytest.approx([right.double().mean().item()] * 2)


@pytest.mark.parametrize("what", ["folder", "npz", "held-out", pytest.param("training", marks=pytest.mark.long)])
def test_changed_files_are_noticed(evaluate, call, place, what):
    """Written again under the same name, of the same number and size."""
    if what in ("training", "held-out"):
        command, folder = (evaluate, ("--training", "data")), f"run/{what}"
        changed = Path("data/train/boot/0.png" if what == "training" else "data/val/boot/0.png")
    else:
        images = make_images(place / "stale", 9, size=(8, 8)) if what == "folder" else place / "stale.npz"
        np.savez("stale.npz", np.zeros((9, 8, 8, 3), dtype=np.uint8))
        command, folder = (call, ("evaluate", "--images", images, *LOOK, "--out", "run")), "run/sampled"
        changed = images / "0.png" if what == "folder" else images
    again, arguments = command
    assert again(*arguments).code == 0
    before = report()
    assert again(*arguments).code == 0
    os.utime(changed, ns=(0, 1))
    outcome = again(*arguments)
    assert outcome.code == 2 and "have changed since" in outcome.err and f"delete {folder}" in outcome.err
    assert {**report(), "finished": ""} == {**report(), "finished": ""} and report()["settings"] == before["settings"]
    shutil.rmtree(folder)
    assert again(*arguments).code == (2 if what == "training" else 0)  # control images are training images, too
    shutil.rmtree("run")
    assert again(*arguments).code == 0


def test_a_copied_folder_goes_on(evaluate):
    assert evaluate("--training", "data").code == 0
    shutil.copytree("run", "elsewhere/run")
    Path("elsewhere/run/sampled/features-00001.safetensors").unlink()
    outcome = evaluate("--training", "data", out="elsewhere/run")
    assert outcome.code == 0 and "sampled 5 of 5" in outcome.err and figures("elsewhere/run") == figures()


def test_features_of_an_older_version_are_used(evaluate):
    """It kept them in RUN/drawn."""
    assert evaluate().code == 0
    before = figures()
    Path("run/sampled").rename("run/drawn")
    outcome = evaluate()
    assert outcome.code == 0 and "sampled" not in outcome.err and figures() == before
    assert not Path("run/sampled").exists()


class White(torch.nn.Module):
    """Instead of an Inception: features of the right number, cheap ones."""

    name, fingerprint = "inception-2015-12-05", "0123"

    def forward(self, images):
        x = torch.nn.functional.interpolate(images.float(), (16, 16)).flatten(1)
        spread = [x.repeat(1, 3)[:, :size] for size in (POOL, SPATIAL, CLASSES)]
        return Features(spread[0], spread[1], spread[2].softmax(1))


@pytest.mark.long
def test_a_published_figure_stands_beside_ours(evaluate, monkeypatch, model, place):
    (place / "inception.pth").touch()
    monkeypatch.setattr("nextscale.evaluation.extractors.load_inception", lambda path: White())
    loaded = ns.Pipeline.from_pretrained(model)
    more = ("--model", "d16", "--features", "inception.pth", "--reference", "real")
    monkeypatch.setattr(ns.Pipeline, "from_pretrained", lambda *_: loaded)
    outcome = evaluate(*more)
    assert outcome.code == 0
    line = report()["verdict_line"]
    assert line in outcome.out and "3.55 published for VAR-d16" in line and "50,000" in line
    assert "too few for features of 2048" in outcome.out
    assert evaluate(*more, "--cfg", 4, out="b").code == 0
    assert "sampled with cfg 4.0" in report("b")["verdict_line"] and "cfg 1.5" in report("b")["verdict_line"]


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_give_the_same_figures(evaluate, place, model):
    assert evaluate(out="one").code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = (
        "import runpy; from nextscale.evaluation import store; store.IMAGES_IN_SHARD = 5; "
        f"runpy.run_path({tiny_classifier.__file__!r}, run_name='__main__')"
    )
    (place / "two.py").write_text(script)
    flags = (
        *LOOK,
        "--reference",
        "ref.npz",
        "--per-class",
        "3",
        "--save",
        "npz",
        "--model",
        str(model),
        "--out",
        "two",
    )
    done = subprocess.run(
        [*launch, "two.py", "evaluate", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert figures("one") == figures("two") and done.stdout.count("report.json") == 1
    with np.load("two/images.npz") as file:
        assert file["arr_0"].shape == (15, 8, 8, 3) and file["arr_1"].tolist() == [i // 3 for i in range(15)]
