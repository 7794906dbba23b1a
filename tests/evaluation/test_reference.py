"""References record their origin, and are rejected if they do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import INCEPTION, Features
from nextscale.evaluation.reference import KEPT, Origin, Reference, kept_images, read_reference, write_reference
from nextscale.evaluation.statistics import Gaussian, Moments

D, E = 6, 4
ORIGIN = Origin(INCEPTION, "0123456789abcdef", (8, 12), "centre", 500)
PIXELS = np.zeros((3, 8, 12, 3), dtype=np.uint8)


@dataclass
class Extractor:
    """Only a name."""

    name: str = INCEPTION
    fingerprint: str = ORIGIN.fingerprint

    def __call__(self, images: Tensor) -> Features:
        raise NotImplementedError


def vectors(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(d))


def gaussian(d: int) -> Gaussian:
    return Moments(d).add(vectors(500, d)).gaussian()


def reference(**changes: Any) -> Reference:
    whole = Reference("real", gaussian(D), gaussian(E), vectors(50, D), ORIGIN)
    return replace(whole, **changes)


def adm(path: Path, **changes: Any) -> Path:
    """A file as the ADM evaluator has it; None leaves an array out."""
    ours = reference()
    assert ours.gaussian and ours.spatial
    arrays = {
        "arr_0": PIXELS,
        "mu": ours.gaussian.mean.numpy(),
        "sigma": ours.gaussian.covariance.numpy(),
        "mu_s": ours.spatial.mean.numpy(),
        "sigma_s": ours.spatial.covariance.numpy(),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def same(a: Gaussian | None, b: Gaussian | None) -> bool:
    if a is None or b is None:
        return a is b
    return torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_written_and_read(tmp_path, dtype):
    ours = reference(features=vectors(50, D).to(dtype))
    write_reference(tmp_path / "new" / "ref.npz", ours)
    read = read_reference(tmp_path / "new" / "ref.npz")
    assert same(read.gaussian, ours.gaussian) and same(read.spatial, ours.spatial)
    assert read.features is not None and read.features.dtype == (
        torch.float16 if dtype == torch.float16 else torch.float32
    )
    assert torch.equal(read.features, vectors(50, D).to(read.features.dtype))
    assert read.origin == ORIGIN and read.stored is None and read.name == str(tmp_path / "new" / "ref.npz")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ref.npz"]


def test_the_adm_evaluator_can_read_ours(tmp_path):
    ours = reference()
    write_reference(tmp_path / "ref.npz", ours)
    assert ours.gaussian and ours.spatial
    with np.load(tmp_path / "ref.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["mu"], ours.gaussian.mean)
        np.testing.assert_array_equal(file["sigma"], ours.gaussian.covariance)
        np.testing.assert_array_equal(file["mu_s"], ours.spatial.mean)
        np.testing.assert_array_equal(file["sigma_s"], ours.spatial.covariance)


def test_without_what_is_not_needed(tmp_path):
    write_reference(tmp_path / "ref.npz", reference(spatial=None, features=None, origin=None))
    read = read_reference(tmp_path / "ref.npz")
    assert read.gaussian and read.spatial is read.features is read.origin is read.stored is None


def test_a_file_of_the_adm_evaluator(tmp_path):
    read = read_reference(adm(tmp_path / "adm.npz"))
    assert same(read.gaussian, gaussian(D)) and same(read.spatial, gaussian(E))
    assert read.origin is None and read.features is None and read.stored == (3, 8, 12)
    read.check(Extractor(), (8, 12), crop="any")
    with refused("adm.npz", "8 x 12", "16 x 16"):
        read.check(Extractor(), (16, 16))
    with refused("adm.npz", INCEPTION, "not flat"):
        read.check(Extractor("flat"), (8, 12))


def test_a_file_of_images(tmp_path):
    read = read_reference(adm(tmp_path / "p.npz", mu=None, sigma=None, mu_s=None, sigma_s=None))
    assert read.gaussian is None and read.stored == (3, 8, 12)
    read.check(Extractor("flat"), (8, 12))


def test_a_file_of_float32_in_fortran_order(tmp_path):
    sigma = np.asfortranarray(gaussian(D).covariance.numpy().astype(np.float32))
    read = read_reference(adm(tmp_path / "adm.npz", sigma=sigma))
    assert read.gaussian and read.gaussian.covariance.dtype == torch.float64
    torch.testing.assert_close(read.gaussian.covariance, gaussian(D).covariance, rtol=1e-6, atol=1e-6)


def test_what_fits():
    reference().check(Extractor(), (8, 12))
    reference().check(Extractor(), (8, 12), crop="centre")
    reference().check_features(Features(torch.zeros(2, D), torch.zeros(2, E)))
    reference(spatial=None).check_features(Features(torch.zeros(2, D), torch.zeros(2, E + 1)))


@pytest.mark.parametrize(
    ("extractor", "size", "crop", "words"),
    [
        (Extractor(), (12, 8), None, ("8 x 12", "12 x 8")),
        (Extractor(), (8, 12), "random", ("'centre'", "'random'")),
        (Extractor("flat"), (8, 12), None, (INCEPTION, "flat")),
        (Extractor(fingerprint="fedcba"), (8, 12), None, ("other weights", ORIGIN.fingerprint, "fedcba")),
    ],
)
def test_what_does_not_fit(extractor, size, crop, words):
    with refused("real", *words):
        reference().check(extractor, size, crop)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (Features(torch.zeros(2, D + 1)), ("pool", D, D + 1)),
        (Features(torch.zeros(2, D), torch.zeros(2, E - 1)), ("spatial", E, E - 1)),
    ],
)
def test_features_of_another_dimension(features, words):
    with refused("real", *words):
        reference().check_features(features)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arr_0": None, "mu": None, "sigma": None}, ("mu_s, sigma_s", "expected mu and sigma", "arr_0")),
        ({"sigma": None}, ("no sigma", "arr_0, mu")),
        ({"mu": None}, ("no mu",)),
        ({"mu": np.zeros(D + 1)}, ("mu and sigma do not fit", (D + 1,), (D, D))),
        ({"sigma_s": np.zeros((E, E + 1))}, ("mu_s and sigma_s do not fit", (E, E + 1))),
        ({"mu": np.full(D, np.nan)}, ("6 of the 6", "mean", "not finite")),
        ({"mu": np.zeros(D, dtype=int)}, ("mu", "int64", "floating-point")),
        ({"sigma": np.triu(np.ones((D, D)))}, ("sigma", "not symmetric")),
        ({"sigma": -np.eye(D)}, ("sigma", "negative variance, -1")),
        ({"arr_0": PIXELS[..., :1]}, ("(3, 8, 12, 1)", "uint8 (N, H, W, 3)")),
        ({"pool": np.zeros((3, D + 1))}, ((3, D + 1),)),
        ({"meta": np.array("no JSON")}, ("meta", "not the origin of a reference file")),
        ({"meta": np.array('{"crop": "centre"}')}, ("meta", "Origin")),
        ({"mu": np.array(["a", None], dtype=object)}, ("mu", "Python objects")),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, words):
    path = adm(tmp_path / "adm.npz", **changes)
    with refused(path, *words) if "pool" not in changes else refused(*words):
        read_reference(path)


def test_a_missing_array_is_all_that_is_said(tmp_path):
    with pytest.raises(InputError) as found:
        read_reference(adm(tmp_path / "adm.npz", mu=None))
    assert "no mu" in str(found.value) and "fit" not in str(found.value)


def test_what_rounding_makes_of_no_variance(tmp_path):
    """A singular covariance in float32, as of fewer images than dimensions."""
    x = vectors(50, 100)
    sigma = np.cov(x.numpy(), rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(sigma.astype(float))[0] < 0
    changes = {"mu": x.mean(0).numpy(), "sigma": sigma, "mu_s": None, "sigma_s": None}
    assert read_reference(adm(tmp_path / "adm.npz", **changes)).gaussian


def test_what_cannot_be_written(tmp_path):
    with refused("no statistics", tmp_path / "r.npz"):
        write_reference(tmp_path / "r.npz", reference(gaussian=None))
    with refused(KEPT, KEPT + 1):
        write_reference(tmp_path / "r.npz", reference(features=torch.zeros(KEPT + 1, D)))
    with refused((50, D + 1)):
        write_reference(tmp_path / "r.npz", reference(features=torch.zeros(50, D + 1)))
    (tmp_path / "file").touch()
    with refused(tmp_path / "file"):
        write_reference(tmp_path / "file" / "r.npz", reference())
    assert not (tmp_path / "r.npz").exists()


@pytest.mark.parametrize(
    "changes", [{"size": (8,)}, {"size": (8, 0)}, {"size": "8x12"}, {"images": 0}, {"crop": 3}, {"agreement": "all"}]
)
def test_an_origin_that_cannot_be(changes):
    with refused(*changes):
        replace(ORIGIN, **changes)


def test_kept_images():
    kept = kept_images(3 * KEPT)
    assert len(kept) == KEPT == len(kept.unique()) and (kept.diff() > 0).all()
    assert kept.double().mean().item() == pytest.approx(1.5 * KEPT, rel=0.02)
    assert torch.equal(kept, kept_images(3 * KEPT)) and not torch.equal(kept, kept_images(3 * KEPT, seed=1))
    assert torch.equal(kept_images(5), torch.arange(5))


def test_shapes_are_compared_before_an_array_is_read(tmp_path, monkeypatch):
    path = tmp_path / "ref.npz"
    np.savez(path, mu=np.zeros(5), sigma=np.eye(4))
    monkeypatch.setattr("nextscale.evaluation.reference.read_array", lambda *_: pytest.fail("an array was read"))
    with refused(path, "mu and sigma do not fit", (5,), (4, 4)):
        read_reference(path)


def test_an_origin_of_nested_json(tmp_path):
    path = tmp_path / "ref.npz"
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2), meta=np.array("[" * 100_000))
    with refused(path, "meta", "nested too deeply"):
        read_reference(path)
