"""LPIPS, with random weights in the official layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import refused
from torch import Tensor, nn

from nextscale.imaging.lpips import LPIPS, load_lpips

CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Their numbers in torchvision's VGG16, by resolution."""
WIDTHS = (64, 128, 256, 512, 512)


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    """Shared between tests: do not change it."""
    generator = torch.Generator().manual_seed(0)
    lpips = LPIPS()
    for layer in lpips.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    for weight in lpips.linear:
        weight.copy_(torch.rand(weight.shape, generator=generator))
    return lpips


@pytest.fixture(scope="module")
def files(lpips, tmp_path_factory) -> Path:
    """A folder with the official files, as .pth and .safetensors, and one file with all of it."""
    folder = tmp_path_factory.mktemp("weights")
    vgg = {f"features.{name}": tensor for name, tensor in lpips.features.state_dict().items()}
    vgg |= {"classifier.0.weight": torch.zeros(4, 2), "classifier.0.bias": torch.zeros(4)}
    linear = {f"lin{i}.model.1.weight": weight.detach() for i, weight in enumerate(lpips.linear)}
    torch.save(vgg, folder / "vgg16.pth")
    torch.save(linear, folder / "linear.pth")
    save_file(vgg, folder / "vgg16.safetensors")
    save_file(linear, folder / "linear.safetensors")
    save_file(vgg | linear, folder / "both.safetensors")
    return folder


def random_images(seed: int, h: int = 16, w: int = 32) -> Tensor:
    return torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def light(**changes: Tensor | None) -> dict[str, Tensor]:
    """VGG16's names and shapes, zeros that take no space on disk; ``features_0_bias=None`` leaves one out."""
    state, before = {}, 3
    for numbers, width in zip(CONVOLUTIONS, WIDTHS, strict=True):
        for n in numbers:
            state[f"features.{n}.weight"] = torch.zeros(()).expand(width, before, 3, 3)
            state[f"features.{n}.bias"] = torch.zeros(()).expand(width)
            before = width
    state |= {name.replace("_", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def written_out(lpips: LPIPS, x: Tensor, y: Tensor) -> Tensor:
    state = lpips.state_dict()

    def features(images: Tensor) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        h, maps = ((images.movedim(1, -1) - shift) / scale).movedim(-1, 1), []
        for numbers in CONVOLUTIONS:
            h = F.max_pool2d(h, 2) if maps else h
            for n in numbers:
                h = F.conv2d(h, state[f"features.{n}.weight"], state[f"features.{n}.bias"], padding=1).relu()
            maps.append(h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    distance = torch.zeros(len(x))
    for i, (f, g) in enumerate(zip(features(x), features(y), strict=True)):
        distance += F.conv2d((f - g) ** 2, state[f"linear.{i}"]).mean(dim=(1, 2, 3))
    return distance


def test_formula(lpips):
    x, y = random_images(1), random_images(2)
    torch.testing.assert_close(lpips(x, y), written_out(lpips, x, y), atol=0, rtol=1e-5)


def test_every_stage_counts(lpips):
    x, y = random_images(1), random_images(2)
    whole, parts = lpips(x, y), []
    for i in range(5):
        others = {f"linear.{j}": torch.zeros_like(w) for j, w in enumerate(lpips.linear) if j != i}
        parts.append(torch.func.functional_call(lpips, others, (x, y)))
        assert (parts[-1] > 0.01 * whole).all()
    torch.testing.assert_close(torch.stack(parts).sum(0), whole)


def test_a_image_is_like_itself(lpips):
    assert lpips(random_images(1), random_images(1)).tolist() == [0, 0]


def test_symmetric_and_positive(lpips):
    x, y = random_images(1), random_images(2)
    there, back = lpips(x, y), lpips(y, x)
    assert there.shape == (2,) and (there > 0).all()
    torch.testing.assert_close(there, back, atol=0, rtol=0)


def test_each_image_by_itself(lpips):
    x, y = random_images(1), random_images(2)
    alone = torch.cat([lpips(x[i : i + 1], y[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(lpips(x, y), alone, atol=0, rtol=1e-5)


def test_gradient_for_images_not_for_weights(lpips):
    x = random_images(1).requires_grad_()
    lpips(x, random_images(2)).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.any()
    assert not lpips.training and not any(p.requires_grad for p in lpips.parameters())
    assert all(p.grad is None for p in lpips.parameters())


def test_gradient_where_nothing_is_seen(lpips):
    x = random_images(1).requires_grad_()
    blind = {"features.28.bias": torch.full((512,), -1e6)}
    torch.func.functional_call(lpips, blind, (x, random_images(2))).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(
    "names",
    [
        ("vgg16.pth", "linear.pth"),
        ("vgg16.safetensors", "linear.pth"),
        ("vgg16.pth", "linear.safetensors"),
        ("both.safetensors",),
    ],
)
def test_files(lpips, files, names):
    loaded = load_lpips(*(files / name for name in names))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert loaded.state_dict().keys() == lpips.state_dict().keys()
    for name, tensor in lpips.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_files_the_wrong_way_round(files):
    with refused(files / "linear.pth", "lin0.model.1.weight and 4 others", "features.0.weight", "torchvision"):
        load_lpips(files / "linear.pth", files / "vgg16.pth")
    with refused(files / "vgg16.pth", "lin0.model.1.weight", "LPIPS"):
        load_lpips(files / "vgg16.pth")


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_missing_file(files, name):
    with refused(files / name):
        load_lpips(files / name, files / "linear.pth")
    with refused(files / name):
        load_lpips(files / "vgg16.pth", files / name)


@pytest.mark.parametrize(("kind", "words"), [("pth", "truncated"), ("safetensors", "complete")])
def test_a_truncated_file(files, tmp_path, kind, words):
    path = tmp_path / f"half.{kind}"
    path.write_bytes((files / f"linear.{kind}").read_bytes()[:-100])
    with refused(path, words):
        load_lpips(files / "vgg16.pth", path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features_28_bias": None}, ("lacks 1 of", "features.28.bias")),
        ({"features_30_weight": torch.zeros(1)}, ("1 tensors besides", "features.30.weight")),
        ({"features_5_weight": torch.zeros(96, 64, 3, 3)}, ("(96, 64, 3, 3)", "(128, 64, 3, 3)")),
    ],
)
def test_another_network(files, tmp_path, changes, words):
    torch.save(light(**changes), tmp_path / "vgg.pth")
    with refused(tmp_path / "vgg.pth", *words):
        load_lpips(tmp_path / "vgg.pth", files / "linear.pth")


def test_linear_layers_of_another_network(tmp_path):
    linear = {f"lin{i}.model.1.weight": torch.zeros(1, width, 1, 1) for i, width in enumerate((64, 192, 384, 256, 256))}
    torch.save(light(), tmp_path / "vgg.pth")
    torch.save(linear, tmp_path / "alex.pth")
    with refused(tmp_path / "alex.pth", "linear.1", "(1, 192, 1, 1)", "(1, 128, 1, 1)"):
        load_lpips(tmp_path / "vgg.pth", tmp_path / "alex.pth")


def test_more_than_tensors(files, tmp_path):
    torch.save(light() | {"epoch": 3}, tmp_path / "vgg.pth")
    with refused(tmp_path / "vgg.pth", "'epoch'", "int"):
        load_lpips(tmp_path / "vgg.pth", files / "linear.pth")


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (1, 3, 16, 32), (2, 1, 16, 32), (3, 16, 32)])
def test_images_that_cannot_be_compared(lpips, shape):
    with refused(shape, (2, 3, 16, 32)):
        lpips(torch.zeros(shape), random_images(1))


def test_images_too_small(lpips):
    with refused("16 pixels", (2, 3, 8, 16)):
        lpips(random_images(1, 8, 16), random_images(2, 8, 16))
