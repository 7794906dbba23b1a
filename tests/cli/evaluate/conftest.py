"""Fixtures of ``nextscale evaluate``: a tiny classifier, a reference, and a command with both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_classifier import load_classifier
from tiny_evaluation import LOOK
from tiny_runs import make_images

from nextscale.evaluation import extractors, store


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(store, "IMAGES_IN_SHARD", 5)


@pytest.fixture
def place(place, monkeypatch) -> Path:
    """With a classifier, and a reference of images of the model's size."""
    monkeypatch.setattr(extractors, "load_classifier", load_classifier)
    (place / "classifier").mkdir()
    make_images(place / "real", 12, seed=9)
    return place


@pytest.fixture
def evaluate(call, place, model):
    """``evaluate("--cfg", 2)`` -> its outcome, with the model, the classifier and a reference of real images."""
    made = call("evaluate", "reference", "real", "--size", 8, *LOOK, "--out", "ref.npz")
    assert made.code == 0, made.err

    def run(*more: object, out: str = "run"):
        common = ("--model", model, "--reference", "ref.npz", "--features", "classifier", "--per-class", 3)
        return call("evaluate", *common, "--out", out, *more)

    return run
