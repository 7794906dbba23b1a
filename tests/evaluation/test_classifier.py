"""The small classifier: its results, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import refused
from torch import Tensor

from nextscale.evaluation.classifier import (
    CARD,
    ClassifierConfig,
    ResidualClassifier,
    as_extractor,
    load_classifier,
    save_classifier,
)
from nextscale.evaluation.features import FeatureExtractor
from nextscale.imaging.images import to_unit_range

NAMES = ("boot", "dress", "hat")
CONFIG = ClassifierConfig(classes=3, size=(8, 6), widths=(4, 8))


def make(seed: int = 0, config: ClassifierConfig = CONFIG) -> ResidualClassifier:
    """Fresh weights, and statistics as if it had seen images."""
    generator = torch.Generator().manual_seed(seed)
    network = ResidualClassifier(config).init_weights(generator)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.6 * torch.rand(buffer.shape, generator=generator) - 0.3)
        else:
            buffer.fill_(7)
    return network.eval()


def images(n: int = 5, size: tuple[int, ...] = CONFIG.size) -> Tensor:
    return torch.randint(0, 256, (n, 3, *size), generator=torch.Generator().manual_seed(1)).byte()


@pytest.fixture
def folder(tmp_path) -> Path:
    save_classifier(tmp_path / "c", make(), NAMES, 0.75)
    return tmp_path / "c"


def test_logits_of_features_are_the_answer():
    network, x = make(), to_unit_range(images())
    features = network.features(x)
    assert features.shape == (5, CONFIG.widths[-1]) and (features >= 0).all()
    assert torch.equal(network.logits(features), network(x))
    probabilities = as_extractor(network, NAMES)(images()).probabilities
    torch.testing.assert_close(probabilities, network(x).softmax(1).detach())


@pytest.mark.parametrize("side", [8, 9, 11, 12])
def test_any_size_and_each_image_for_itself(side):
    config = ClassifierConfig(classes=2, size=(side, side + 1), widths=(4, 8, 16))
    extractor = as_extractor(make(config=config), ("a", "b"))
    x = images(3, config.size)
    alone = torch.cat([extractor(image[None]).pool for image in x])
    torch.testing.assert_close(extractor(x).pool, alone)
    assert not torch.allclose(alone[0], alone[1])


def test_what_was_saved_is_loaded(folder):
    ours: FeatureExtractor = as_extractor(make(), NAMES, 0.75)
    theirs = load_classifier(folder)
    assert (theirs.name, theirs.fingerprint) == (ours.name, ours.fingerprint)
    assert (theirs.size, theirs.class_names, theirs.accuracy) == (CONFIG.size, NAMES, 0.75)
    x = images()
    assert torch.equal(theirs(x).pool, ours(x).pool)
    assert load_classifier(folder).fingerprint != as_extractor(make(1), NAMES).fingerprint


def test_an_accuracy_need_not_be_known(tmp_path):
    save_classifier(tmp_path, make(), NAMES)
    assert load_classifier(tmp_path).accuracy is None


def test_another_one_in_its_place(folder):
    save_classifier(folder, make(1), NAMES, 0.5)
    assert load_classifier(folder).fingerprint == as_extractor(make(1), NAMES).fingerprint


def test_half_of_another_one_in_its_place_is_none(folder, monkeypatch):
    monkeypatch.setattr("nextscale.io.module_folder.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_classifier(folder, make(1), NAMES)
    with refused(folder, CARD):
        load_classifier(folder)


def test_a_size_that_it_does_not_take(folder):
    with refused("a classifier of 3 classes takes", "8 x 6", "6 x 8"):
        load_classifier(folder)(images(size=(6, 8)))


def test_its_weights_come_from_the_generator():
    weights = [make(seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["stem.weight"], weights[2]["stem.weight"])


def test_fresh_weights_keep_features_in_range():
    config = ClassifierConfig(classes=3, size=(64, 64))
    network = ResidualClassifier(config).init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.features(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert 0.2 < features.mean() < 0.8  # of relu(normal), 0.4


BROKEN = {
    "nothing there": (lambda f: f.rename(f.with_name("moved")), "no folder"),
    "no card": (lambda f: (f / CARD).unlink(), "evaluate classifier"),
    "a card of something else": (lambda f: (f / CARD).write_text('{"colour": 1}'), "colour"),
    "no JSON": (lambda f: (f / CARD).write_text("{"), "JSON"),
    "names that are none": (lambda f: rewrite(f / CARD, class_names="boot"), "class_names"),
    "an accuracy that is none": (lambda f: rewrite(f / CARD, accuracy="high"), "accuracy"),
    "an accuracy that is no share": (lambda f: rewrite(f / CARD, accuracy=80), "80"),
    "too few names": (lambda f: rewrite(f / CARD, class_names=["boot"]), "names 1 classes"),
    "another network": (lambda f: rewrite(f / "config.json", widths=[4, 4]), "shape"),
    "one class": (lambda f: rewrite(f / "config.json", classes=1), "at least 2"),
    "one side": (lambda f: rewrite(f / "config.json", size=[8]), "height and width"),
    "sides that are too short": (lambda f: rewrite(f / "config.json", size=[3, 8]), "at least 4 pixels"),
    "no sides": (lambda f: rewrite(f / "config.json", size=[0, 8]), "size"),
    "cut short": (lambda f: (f / "model.safetensors").write_bytes(b"1234"), "complete"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "a weight too few": (lambda f: drop(f / "model.safetensors", "stem.weight"), "stem.weight"),
}


def rewrite(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def drop(path: Path, name: str) -> None:
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)


@pytest.mark.parametrize("how", BROKEN)
def test_a_folder_that_is_no_classifier(folder, how):
    spoil, word = BROKEN[how]
    spoil(folder)
    with refused(word):
        load_classifier(folder)
