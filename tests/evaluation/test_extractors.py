"""Loading feature extractors by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import refused
from tiny_classifier import CLASSES, TinyClassifier, load_classifier

from nextscale.errors import InputError
from nextscale.evaluation import extractors
from nextscale.evaluation.extractors import CACHED, find_inception, load_extractor, probe

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("name", CACHED)
def test_what_other_tools_left(empty_cache, name):
    empty_cache.mkdir(parents=True)
    (empty_cache / name).touch()
    assert find_inception("") == empty_cache / name


def test_nothing_named_and_nothing_left():
    with refused("no --features", "https://github.com/toshas/torch-fidelity"):
        find_inception("")


def test_a_file_that_is_not_there(tmp_path):
    with refused(tmp_path / "none.pth", "https://github.com/"):
        load_extractor(str(tmp_path / "none.pth"), CPU)


@pytest.mark.parametrize("name", ["classifier", "runs/judge", "runs/judge.v2"])
def test_a_classifier_that_is_not_there(name, tmp_path, monkeypatch):
    """The first thing to name is not Inception."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_extractor(name, CPU)
    sentence = str(caught.value)
    assert name in sentence and sentence.index("evaluate classifier") < sentence.index("Inception")


def test_a_file_of_the_hub(monkeypatch):
    monkeypatch.setattr(extractors, "fetch", lambda *names: Path("cache", *names))
    assert find_inception("someone/weights:inception.pth") == Path("cache/someone/weights/inception.pth")


def test_no_network():
    with refused("cannot download inception.pth from someone/weights", "https://github.com/"):
        find_inception("someone/weights:inception.pth")


def test_a_folder_is_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr(extractors, "load_classifier", load_classifier)
    extractor = load_extractor(str(tmp_path), CPU)
    assert isinstance(extractor, TinyClassifier) and extractor.class_names == CLASSES
    assert probe(extractor, (9, 7), CPU).pool.shape == (1, 6)
