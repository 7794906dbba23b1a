"""`ns.evaluate` with any function as feature extractor."""

from __future__ import annotations

import re
import textwrap

import numpy as np
import pytest
import tiny_classifier
import torch
from PIL import Image
from tiny import refused
from tiny_runs import make_images
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

import nextscale as ns
from nextscale.evaluation.frechet import frechet_distance
from nextscale.evaluation.gallery import ImageFolder
from nextscale.evaluation.npz import write_images
from nextscale.evaluation.precision_recall import precision_recall
from nextscale.evaluation.reference import Reference
from nextscale.evaluation.statistics import Moments


def pixels(seed: int, count: int = 20, side: int = 8) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def colours(images: Tensor) -> Tensor:
    return adaptive_avg_pool2d(images / 255, 2).flatten(1)


def test_the_metrics_of_a_function_are_those_of_its_features():
    ours, real = pixels(0), pixels(1)
    report = ns.evaluate(ours, real, colours, batch_size=3)
    a, b = (Moments(12).add(colours(images)).gaussian() for images in (ours, real))
    assert report.fid == pytest.approx(frechet_distance(a, b), rel=1e-6)
    assert report.precision_recall == precision_recall(colours(real), colours(ours))
    assert report.images == report.reference_images == 20 and report.size == (8, 8) and report.extractor == "colours"
    assert report.reference == "the reference" and report.fingerprint == "" and report.reference_crop is None


def test_what_pool_features_do_not_give_is_skipped_and_named():
    report = ns.evaluate(pixels(0), pixels(1), colours)
    assert report.inception_score is report.sfid is report.agreement is None
    (skipped,) = (warning for warning in report.warnings if "skipped" in warning)
    assert all(word in skipped for word in ("colours", "Inception Score", "label agreement", "sFID"))
    assert f"note: {skipped}" in report.table()


def test_files_that_are_skipped_are_named_in_the_report(tmp_path):
    folder = make_images(tmp_path / "photos", 8)
    (folder / "notes.txt").touch()
    (note,) = (warning for warning in ns.evaluate(folder, None, colours).warnings if "notes.txt" in warning)
    assert str(folder) in note and ".txt 1" in note


def test_the_example_in_the_docstring_runs(tmp_path, monkeypatch, capsys):
    """It has at most 15 lines, comments and imports included."""
    (code,) = re.findall(r"```python\n(.*?)```", ns.evaluate.__doc__ or "", re.DOTALL)
    code = textwrap.dedent(code)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    make_images(tmp_path / "runs" / "images", 8, size=(16, 16))
    make_images(tmp_path / "photos", 9, size=(16, 16), seed=1)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "8 images, by colours, against photos, 9 images" in capsys.readouterr().out


def test_images_may_lie_anywhere(tmp_path):
    """In memory, in an array, in a folder, in an .npz file or in a gallery."""
    ours, real = pixels(0), pixels(1)
    for name, images in (("ours", ours), ("real", real)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{i:02d}.png")
        write_images(tmp_path / f"{name}.npz", [images], (len(images), 8, 8))
    expected = ns.evaluate(ours, real, colours).figures()
    assert ns.evaluate(ours.numpy(), real.numpy(), colours).figures() == expected
    assert ns.evaluate(tmp_path / "ours", str(tmp_path / "real"), colours).figures() == expected
    assert ns.evaluate(ImageFolder(tmp_path / "ours"), ImageFolder(tmp_path / "real"), colours).figures() == expected
    assert ns.evaluate(str(tmp_path / "ours.npz"), tmp_path / "real.npz", colours).figures() == expected


def test_a_reference_of_statistics():
    gaussian = Moments(12).add(colours(pixels(1))).gaussian()
    with refused("records no extractor"):
        ns.evaluate(pixels(0), Reference("real", gaussian), colours)
    assert ns.evaluate(pixels(0), None, colours).figures() == {}


def test_an_extractor_of_ours_gives_what_it_knows():
    classifier = tiny_classifier.TinyClassifier()
    report = ns.evaluate(pixels(0), pixels(1), classifier)
    assert report.extractor == "tiny classifier" and report.fingerprint == classifier.fingerprint
    assert report.inception_score and report.sfid is None
    assert not any("Inception Score" in warning for warning in report.warnings)


def test_a_module_is_told_by_its_weights():
    fingerprints = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).requires_grad_(False)
        report = ns.evaluate(pixels(0), None, lambda x, net=module: net(x.float()))
        assert report.fingerprint == ""
        fingerprints.append(ns.evaluate(pixels(0), None, Floats(module)).fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] and len(fingerprints[0]) == 16


class Floats(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> np.ndarray:
        return self.inner(images.float()).numpy()


def test_bad_input():
    ours = pixels(0)
    with refused("uint8", "(B, 3, H, W)", "(20, 8, 8, 3)"):
        ns.evaluate(ours.permute(0, 2, 3, 1), ours, colours)
    with refused("float32"):
        ns.evaluate(ours.float(), ours, colours)
    with refused("8 x 8", "4 x 4"):
        ns.evaluate(ours, pixels(0, side=4), colours)
    with refused("<lambda>", "(1, F)", "(1, 3, 8, 8)"):
        ns.evaluate(ours, None, lambda x: x.float())
    with refused("<lambda>", "a list"):
        ns.evaluate(ours, None, lambda x: [0.0])  # type: ignore[arg-type, return-value]
    with refused("not finite"):
        ns.evaluate(ours, None, lambda x: x.float().flatten(1) / 0)
    with refused("batch_size", 0):
        ns.evaluate(ours, None, colours, batch_size=0)
    with refused("a int", "function"):
        ns.evaluate(ours, None, 3)  # type: ignore[arg-type]
    with refused("no folder nowhere"):
        ns.evaluate("nowhere", None, colours)
