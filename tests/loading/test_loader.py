"""The order of batches depends on (seed, step) alone."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_runs import make_pictures

from nextscale.data.dataset import PictureDataset
from nextscale.data.folder import scan_folder
from nextscale.data.loader import Batch, check_data, training_batches, validation_batches

COUNT, BATCH = 11, 3
PER_EPOCH = COUNT // BATCH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Picture i is all of brightness 20 i, in two classes."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        (root / f"class{i % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (20, 18), (20 * i,) * 3).save(root / f"class{i % 2}" / f"{i:02d}.png")
    return scan_folder(root)


def batches(folder, count: int, start: int = 0, seed: int = 0, workers: int = 0) -> list[Batch]:
    return list(islice(training_batches(PictureDataset(folder, (16, 16), seed), BATCH, start, workers), count))


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in zip(a, b, strict=True)
    )


def indices(batch: Batch) -> list[int]:
    return batch.images[:, 0, 8, 8].add(1).mul(127.5).div(20).round().int().tolist()


@pytest.mark.parametrize("start", [1, PER_EPOCH, PER_EPOCH + 2, 3 * PER_EPOCH])
def test_starting_at_a_step_equals_running_to_it(tmp_path, start):
    noise = scan_folder(make_pictures(tmp_path / "noise", COUNT))
    assert equal(batches(noise, 4, start), batches(noise, start + 4)[start:])


def test_workers_change_nothing(tmp_path):
    noise = scan_folder(make_pictures(tmp_path / "noise", COUNT))
    assert equal(batches(noise, 5, start=2, workers=2), batches(noise, 5, start=2))


def test_every_picture_at_most_once_an_epoch(folder):
    seen = [i for batch in batches(folder, PER_EPOCH) for i in indices(batch)]
    assert len(set(seen)) == len(seen) == PER_EPOCH * BATCH


def test_every_picture_once_an_epoch_when_batches_fit(folder):
    data = PictureDataset(folder, (16, 16))
    (batch,) = islice(training_batches(data, COUNT, 0, 0), 1)
    assert sorted(indices(batch)) == list(range(COUNT))


def test_every_picture_has_its_label(folder):
    for batch in batches(folder, 2 * PER_EPOCH):
        assert [i % 2 for i in indices(batch)] == batch.labels.tolist()
        assert batch.labels.dtype == torch.int64


def test_epochs_and_seeds_differ(folder):
    first = [indices(batch) for batch in batches(folder, PER_EPOCH)]
    assert first != [indices(batch) for batch in batches(folder, PER_EPOCH, start=PER_EPOCH)]
    assert first != [indices(batch) for batch in batches(folder, PER_EPOCH, seed=1)]
    assert first == [indices(batch) for batch in batches(folder, PER_EPOCH)]


def test_validation_sees_every_picture_once_in_order(folder):
    seen = list(validation_batches(PictureDataset(folder, (16, 16), augment=False), 4))
    assert [len(batch.images) for batch in seen] == [4, 4, 3]
    assert [i for batch in seen for i in indices(batch)] == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9]


def test_unreadable_pictures_are_named_in_their_batch(tmp_path):
    noise = make_pictures(tmp_path / "noise", 4)
    (noise / "1.png").write_bytes(b"no picture")
    data = PictureDataset(scan_folder(noise), (16, 16))
    (batch,) = islice(training_batches(data, 4, 0, 0), 1)
    assert batch.images.shape == (4, 3, 16, 16)
    (name,) = batch.unreadable
    assert str(noise / "1.png") in name


def test_a_batch_larger_than_the_data(folder):
    data = PictureDataset(folder, (16, 16))
    check_data(data, None, COUNT)
    with refused("batch", COUNT + 1, COUNT):
        check_data(data, None, COUNT + 1)


def test_a_split_without_a_readable_picture(tmp_path, folder):
    (tmp_path / "a.png").write_bytes(b"no picture")
    data, broken = (PictureDataset(f, (16, 16)) for f in (folder, scan_folder(tmp_path)))
    for splits in ((broken, None), (data, broken)):
        with refused("none of the 1", tmp_path):
            check_data(*splits, 1)
