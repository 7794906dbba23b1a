"""The metrics of an evaluation agree with a NumPy implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import refused
from tiny_gallery import Numbered, Table, normal

from nextscale.evaluation import store as module
from nextscale.evaluation.reference import Origin, Reference, read_reference
from nextscale.evaluation.session import Session, renumbered
from nextscale.evaluation.summary import Summary
from nextscale.evaluation.target import Target

CPU = torch.device("cpu")
N, D, E, C = 2000, 16, 8, 5


def table(n: int = N, seed: int = 0, shift: float = 0.0, spatial: bool = True) -> Table:
    probabilities = (2 * normal(n, C, seed + 2)).softmax(1)
    return Table(normal(n, D, seed) + shift, normal(n, E, seed + 1) if spatial else None, probabilities)


def summary(folder: Path, extractor: Table, keep: int = 50_000, **of_gallery) -> tuple[Session, Summary]:
    session = Session(folder, extractor, CPU, batch_size=100)
    store = session.fill(session.open("sampled", Numbered(len(extractor.tensors.pool), **of_gallery)), "looked at")
    return session, session.summarise(store, keep)


def real(folder: Path, extractor: Table) -> Reference:
    session = Session(folder, extractor, CPU, batch_size=100)
    target = Target.of_images(session, Numbered(len(extractor.tensors.pool)), "centre")
    target.fill()
    return target.finish()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.sqrt(np.linalg.eigvals(s @ t).astype(complex))).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * root


def score(p: np.ndarray) -> float:
    return np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())


def inside(points: np.ndarray, centres: np.ndarray, k: int = 3) -> float:
    """Share of the points within the ball of some centre that reaches to its k-th nearest other centre."""

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0))

    radius = np.partition(distances(centres, centres) + np.diag([-1.0] * len(centres)), k, axis=1)[:, k]
    return (distances(points, centres) <= radius).any(1).mean()


def test_all_figures_as_in_numpy(tmp_path):
    ours, theirs = table(shift=0.3), table(seed=10)
    session, drawn = summary(tmp_path / "drawn", ours)
    fields = session.measure(drawn, real(tmp_path / "real", theirs))
    (pool, spatial, p), (real_pool, real_spatial, _) = (
        [tensor.double().numpy() for tensor in extractor.tensors if tensor is not None] for extractor in (ours, theirs)
    )
    assert fields["fid"] == pytest.approx(frechet(pool, real_pool), rel=1e-6)
    assert fields["sfid"] == pytest.approx(frechet(spatial, real_spatial), rel=1e-6)
    scores = fields["inception_score"]
    assert scores.whole == scores.ordered == pytest.approx(score(p), rel=1e-6)
    assert fields["precision_recall"].precision == pytest.approx(inside(pool, real_pool), rel=1e-6)
    assert fields["precision_recall"].recall == pytest.approx(inside(real_pool, pool), rel=1e-6)
    assert fields["warnings"] == ()


def test_images_against_themselves(tmp_path):
    session, drawn = summary(tmp_path / "drawn", table())
    fields = session.measure(drawn, real(tmp_path / "real", table()))
    assert fields["fid"] < 1e-6 and fields["sfid"] < 1e-6
    assert fields["precision_recall"].precision == fields["precision_recall"].recall == 1


def test_shards_make_no_difference(tmp_path, monkeypatch):
    _, one = summary(tmp_path / "a", table())
    monkeypatch.setattr(module, "IMAGES_IN_SHARD", 333)
    _, other = summary(tmp_path / "b", table())
    torch.testing.assert_close(one.moments.covariance, other.moments.covariance, rtol=1e-10, atol=1e-12)
    assert one.scores and other.scores and one.scores.shuffled == pytest.approx(other.scores.shuffled, rel=1e-12)
    assert torch.equal(one.kept, other.kept) and one.agreement == other.agreement


def test_few_features_are_kept_of_many_images(tmp_path):
    _, drawn = summary(tmp_path, extractor := table(), keep=50)
    assert drawn.count == N and drawn.kept.shape == (50, D)
    assert torch.equal(drawn.kept, extractor.tensors.pool[drawn.kept_indices])
    assert drawn.kept_indices.max() > 1500


def test_label_agreement(tmp_path):
    extractor = table()
    names = ("b", "a")
    extractor.class_names, extractor.accuracy = ("a", "x", "b", "y", "z"), 0.9  # type: ignore[attr-defined]
    _, drawn = summary(tmp_path, extractor, class_names=names)
    assert extractor.tensors.probabilities is not None and drawn.agreement
    seen = extractor.tensors.probabilities.argmax(1)
    right = torch.cat([seen[:1000] == 2, seen[1000:] == 0]).double()
    assert drawn.agreement.overall == pytest.approx(right.mean().item())
    assert drawn.agreement.per_class == {"b": right[:1000].mean().item(), "a": right[1000:].mean().item()}
    assert drawn.agreement.real is None


@pytest.mark.parametrize(
    ("ours", "real", "words"), [(0.8, 0.8, "reference"), (None, 0.9, "validation images")], ids=["known", "unknown"]
)
def test_agreement_of_real_images_is_that_of_the_reference(tmp_path, ours, real, words):
    extractor = table()
    extractor.class_names, extractor.accuracy = tuple("abcde"), 0.9  # type: ignore[attr-defined]
    session, drawn = summary(tmp_path, extractor)
    origin = Origin("table", "0123", (2, 3), "training", N, ours)
    agreement = session.measure(drawn, Reference("ref", origin=origin))["agreement"]
    assert agreement.real == real and words in agreement.real_images


def test_images_with_classes_say_how_often_theirs_is_seen(tmp_path):
    extractor = table()
    extractor.class_names = tuple("abcde")  # type: ignore[attr-defined]
    _, drawn = summary(tmp_path / "drawn", extractor)
    origin = real(tmp_path / "real", extractor).origin
    assert drawn.agreement and origin and origin.agreement == drawn.agreement.overall


@pytest.mark.parametrize("names", [(), ("a", "b"), ("a", "c", "d", "e", "f")])
def test_no_agreement_of_other_classes(tmp_path, names):
    extractor = table(20)
    extractor.class_names = names  # type: ignore[attr-defined]
    _, drawn = summary(tmp_path, extractor, class_names=("a", "c"))
    assert (drawn.agreement is None) == (names != ("a", "c", "d", "e", "f"))


def test_too_few_images_are_said(tmp_path):
    session, drawn = summary(tmp_path / "drawn", table(5))
    fields = session.measure(drawn, real(tmp_path / "real", table(D)))
    ours, theirs, few = fields["warnings"]
    assert "5 images are too few" in ours and f"{D} images" in theirs and "more than 5" in few
    assert "precision_recall" not in fields and fields["fid"] > 0


def test_without_a_reference(tmp_path):
    session, drawn = summary(tmp_path, table())
    fields = session.measure(drawn, None)
    assert fields.keys() == {"inception_score", "agreement", "warnings"} and fields["warnings"] == ()


def test_a_reference_without_single_features(tmp_path):
    session, drawn = summary(tmp_path / "drawn", table())
    reference = real(tmp_path / "real", table())
    bare = Reference("bare.npz", reference.gaussian, None, None, reference.origin)
    fields = session.measure(drawn, bare)
    assert "sfid" not in fields and "precision_recall" not in fields
    assert "bare.npz has no features of single images" in fields["warnings"][0]


@pytest.mark.parametrize("statistics", [False, True])
def test_a_file_with_images_gives_what_it_lacks(tmp_path, statistics):
    extractor = table()
    extractor.name = "inception-2015-12-05"
    pixels = Numbered(N).read(range(N)).pixels.permute(0, 2, 3, 1).numpy()
    gaussian = real(tmp_path / "real", extractor).gaussian
    assert gaussian
    arrays = {"mu": gaussian.mean.numpy() + 1, "sigma": gaussian.covariance.numpy()} if statistics else {}
    np.savez(tmp_path / "adm.npz", arr_0=pixels, **arrays)  # type: ignore[arg-type]
    session = Session(tmp_path / "run", extractor, CPU, 100)
    target = Target.of_file(session, read_reference(tmp_path / "adm.npz"))
    target.check(Numbered(N))
    target.fill()
    reference = target.finish()
    assert reference.features is not None and torch.equal(reference.features, extractor.tensors.pool)
    assert reference.gaussian and reference.name == str(tmp_path / "adm.npz")
    torch.testing.assert_close(reference.gaussian.mean, gaussian.mean + statistics)
    assert (reference.spatial is None) == statistics


def test_references_that_do_not_fit(tmp_path):
    session = Session(tmp_path / "run", table(), CPU)
    reference = real(tmp_path / "real", table())

    def target(**origin) -> Target:
        fields = {"extractor": "table", "fingerprint": "0123", "size": (2, 3), "crop": "centre", "images": N}
        origins = Origin(**(fields | origin))
        return Target.of_file(session, Reference("ref", reference.gaussian, None, reference.features, origins))

    target().check(Numbered(N), "centre")
    with refused("ref", "2 x 4", "2 x 3"):
        target(size=(2, 4)).check(Numbered(N))
    with refused("'training'", "'centre'"):
        target(crop="training").check(Numbered(N), "centre")
    with refused("other", "table"):
        target(extractor="other").check(Numbered(N))
    images = Target.of_images(session, larger := Numbered(9), "centre")
    larger.size = (4, 4)
    with refused("4 x 4", "2 x 3"):
        images.check(Numbered(N))


def test_memorised_images_are_named_by_their_numbers(tmp_path):
    """Control images are training images here: all of them are close."""
    pool = normal(60, D)
    drawn = Table(torch.cat([normal(9, D, 5) + 9, pool[[17]] + 1e-3]))
    _, ours = summary(tmp_path / "drawn", drawn)
    session = Session(tmp_path / "real", Table(pool), CPU, 7)
    training = session.fill(session.open("training", Numbered(40, broken=[3, 4])), "")
    held_out = session.fill(session.open("held-out", Numbered(60, broken=range(40))), "")
    control = session.fill(session.open("control", Numbered(30)), "")
    found = session.memorised(ours, ("a", "b"), training, held_out, control)
    assert (found.pairs[0].sampled, found.pairs[0].training) == (9, 17)
    assert found.share == pytest.approx(0.1) and not found.by_class
    assert found.control == pytest.approx(28 / 30) and found.control_images == 30


def test_classes_go_by_their_names():
    assert renumbered(torch.tensor([1, 0, -1, 2]), ("hat", "dress", "x"), ("dress", "hat")).tolist() == [0, 1, -1, -1]
    assert renumbered(torch.tensor([-1, -1]), (), ("dress",)).tolist() == [-1, -1]
