"""Inception has the results of torch-fidelity on random weights (`data/golden/inception`)."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import refused
from torch import Tensor

from nextscale.evaluation import inception as module
from nextscale.evaluation import inception_blocks
from nextscale.evaluation.inception import SIDE, Inception, load_inception, resize
from nextscale.io.module_folder import fill

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "inception" / "inception.npz"
SETS = ("small", "large")


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    x = np.random.RandomState(zlib.crc32(f"inception/{name}".encode())).standard_normal(shape)
    if name.endswith("bn.weight"):
        x = 1 + 0.1 * x
    elif name.endswith("running_var"):
        x = np.exp(0.2 * x)
    elif len(shape) > 1:
        x = x * math.sqrt(2 / math.prod(shape[1:]))
    else:
        x = 0.1 * x
    return torch.from_numpy(x).float()


def images(seed: int, n: int, h: int, w: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 256, (n, 3, h, w)).astype(np.uint8))


def shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Inception().state_dict().items()}


@pytest.fixture(scope="module")
def inception() -> Inception:
    """Shared between tests: do not change it."""
    with torch.device("meta"):
        empty = Inception()
    return fill(empty, {name: weight(name, shape) for name, shape in shapes().items()}, "a formula")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("name", SETS)
def test_as_torch_fidelity(inception, golden, name):
    x = images(*golden[f"{name}_pictures"].tolist())
    features = inception(x)
    spatial = golden[f"{name}_spatial"].permute(0, 2, 3, 1).flatten(1)
    for ours, theirs in (
        ((resize(x.float(), (SIDE, SIDE))[:, :, ::37, ::37] - 128) / 128, golden[f"{name}_resized"]),
        (features.pool, golden[f"{name}_pool"]),
        (features.spatial, spatial),
        (inception.logits(features.pool), golden[f"{name}_logits"]),
        (features.probabilities, golden[f"{name}_logits"].softmax(1)),
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert features.pool.shape == (len(x), 2048) and features.spatial.shape == (len(x), 2023)


@pytest.mark.parametrize("block", ["Mixed_5b", "Mixed_6d", "Mixed_7b", "Mixed_7c"])
def test_the_comparison_sees_how_a_block_pools(inception, golden, block, monkeypatch):
    def over_all_nine(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1)

    pooled = inception.get_submodule(block)
    pool, layers = pooled.plans[-1]
    assert pool is (inception_blocks.maximum if block == "Mixed_7c" else inception_blocks.mean)
    monkeypatch.setattr(pooled, "plans", [*pooled.plans[:-1], [over_all_nine, layers]])
    x = images(*golden["small_pictures"].tolist())
    assert (inception(x).pool - golden["small_pool"]).abs().max() > 0.01


def test_the_comparison_sees_how_images_are_resized(inception, golden, monkeypatch):
    monkeypatch.setattr(module, "resize", lambda x, size: F.interpolate(x, size, mode="bilinear"))
    x = images(*golden["small_pictures"].tolist())
    assert (inception(x).pool - golden["small_pool"]).abs().max() > 0.01


def test_each_image_by_itself(inception):
    x = images(3, 2, 40, 40)
    alone = [inception(x[i : i + 1]) for i in range(2)]
    for together, *parts in zip(inception(x), *alone, strict=True):
        torch.testing.assert_close(together, torch.cat(parts), atol=1e-5, rtol=1e-5)


def test_training_mode_and_autocast_make_no_difference(inception):
    x = images(3, 1, 40, 40)
    expected = inception(x).pool
    inception.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inception(x).pool, expected)
    inception.eval()
    assert not any(p.requires_grad for p in inception.parameters())


def test_images_of_its_own_size_are_not_resized():
    x = images(1, 1, SIDE, SIDE).float()
    assert torch.equal(resize(x, (SIDE, SIDE)), x)


def test_resizing_starts_at_the_first_pixel():
    """Twice the size: each pixel, then the mean with the next one; at the end the last pixel again."""
    x = torch.tensor([1.0, 3, 7]).view(1, 1, 1, 3)
    assert resize(x, (1, 6)).flatten().tolist() == [1, 2, 3, 5, 7, 7]
    assert resize(x.mT, (6, 1)).flatten().tolist() == [1, 2, 3, 5, 7, 7]


def test_resizing_to_less_leaves_pixels_out():
    x = torch.arange(8.0).view(1, 1, 1, 8)
    assert resize(x, (1, 4)).flatten().tolist() == [0, 2, 4, 6]
    assert resize(x, (1, 3)).flatten().tolist() == pytest.approx([0, 8 / 3, 16 / 3])


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_files(inception, tmp_path, kind):
    path, state = tmp_path / f"inception.{kind}", inception.state_dict()
    if kind == "pth":
        counts = {
            f"{name.removesuffix('weight')}num_batches_tracked": torch.tensor(0) for name in state if "bn.w" in name
        }
        torch.save(state | counts, path)
    else:
        save_file(state, path)
    loaded = load_inception(path)
    path.unlink()
    assert loaded.fingerprint == inception.fingerprint and len(loaded.fingerprint) == 16
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for name, tensor in state.items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def light(path: Path, **changes: Tensor | None) -> Path:
    """A file of the right names and shapes, zeros that take no space; ``fc_weight=None`` leaves one out."""
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes().items()}
    changed = state | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    torch.save({name: tensor for name, tensor in changed.items() if tensor is not None}, path)
    return path


def test_a_missing_file_says_where_to_get_one(tmp_path):
    with refused(tmp_path / "none.pth", "torch-fidelity/releases", "pt_inception-2015-12-05-6726825d.pth"):
        load_inception(tmp_path / "none.pth")


def test_files_of_other_networks(tmp_path):
    path = tmp_path / "weights.pth"
    with refused(path, "another Inception", "1000 classes", "1008"):
        load_inception(light(path, fc__weight=torch.zeros(1000, 2048)))
    with refused(path, "lacks 1 of", "fc.bias"):
        load_inception(light(path, fc__bias=None))
    with refused(path, "AuxLogits.fc.bias"):
        load_inception(light(path, AuxLogits__fc__bias=torch.zeros(1)))
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with refused(path, "features.0.weight", "no Mixed_5b", "torch-fidelity"):
        load_inception(path)
    path.write_bytes(b"PK\3\4 cut short")
    with refused(path, "truncated"):
        load_inception(path)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(1, 3, 8, 8),
        torch.zeros(1, 1, 8, 8).byte(),
        torch.zeros(3, 8, 8).byte(),
        torch.zeros(0, 3, 8, 8).byte(),
    ],
)
def test_what_are_no_images(inception, x):
    with refused("uint8", tuple(x.shape)):
        inception(x)
