"""The order of batches depends on (seed, step) only."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
import torch
from PIL import Image
from tiny import refused
from tiny_runs import make_images

from nextscale.data import loader
from nextscale.data.dataset import ImageDataset
from nextscale.data.folder import scan_folder
from nextscale.data.loader import Batch, BatchSlice, TrainingBatches, check_data, divide, validation_batches

COUNT, BATCH = 11, 3
PER_EPOCH = COUNT // BATCH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Image i is all of brightness 20 i, in two classes."""
    root = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        (root / f"class{i % 2}").mkdir(exist_ok=True)
        Image.new("RGB", (20, 18), (20 * i,) * 3).save(root / f"class{i % 2}" / f"{i:02d}.png")
    return scan_folder(root)


def batches(folder, count: int, start: int = 0, seed: int = 0, workers: int = 0) -> list[Batch]:
    data = ImageDataset(folder, (16, 16), seed)
    return [batch for (batch,) in islice(TrainingBatches(data, BATCH, start, workers), count)]


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in zip(a, b, strict=True)
    )


def indices(batch: Batch) -> list[int]:
    return batch.images[:, 0, 8, 8].add(1).mul(127.5).div(20).round().int().tolist()


@pytest.mark.parametrize("start", [1, PER_EPOCH, PER_EPOCH + 2, 3 * PER_EPOCH])
def test_starting_at_a_step_equals_running_to_it(tmp_path, start):
    noise = scan_folder(make_images(tmp_path / "noise", COUNT))
    assert equal(batches(noise, 4, start), batches(noise, start + 4)[start:])


def test_workers_change_nothing(tmp_path):
    noise = scan_folder(make_images(tmp_path / "noise", COUNT))
    assert equal(batches(noise, 5, start=2, workers=2), batches(noise, 5, start=2))


def test_every_image_at_most_once_an_epoch(folder):
    seen = [i for batch in batches(folder, PER_EPOCH) for i in indices(batch)]
    assert len(set(seen)) == len(seen) == PER_EPOCH * BATCH


def test_every_image_once_an_epoch_when_batches_fit(folder):
    data = ImageDataset(folder, (16, 16))
    (batch,) = next(TrainingBatches(data, COUNT, 0))
    assert sorted(indices(batch)) == list(range(COUNT))


def test_every_image_has_its_label(folder):
    for batch in batches(folder, 2 * PER_EPOCH):
        assert [i % 2 for i in indices(batch)] == batch.labels.tolist()
        assert batch.labels.dtype == torch.int64


def test_epochs_and_seeds_differ(folder):
    first = [indices(batch) for batch in batches(folder, PER_EPOCH)]
    assert first != [indices(batch) for batch in batches(folder, PER_EPOCH, start=PER_EPOCH)]
    assert first != [indices(batch) for batch in batches(folder, PER_EPOCH, seed=1)]
    assert first == [indices(batch) for batch in batches(folder, PER_EPOCH)]


def as_process(monkeypatch, rank: int, count: int) -> None:
    """Let the loader be one of several processes."""
    monkeypatch.setattr(loader, "rank", lambda: rank)
    monkeypatch.setattr(loader, "world_size", lambda: count)


@pytest.mark.parametrize(("processes", "turns"), [(1, 3), (3, 1), (2, 3), (6, 1)])
def test_parts_make_up_the_batch_however_it_is_divided(folder, monkeypatch, processes, turns):
    data, parts = ImageDataset(folder, (16, 16)), []
    whole = [batch for (batch,) in islice(TrainingBatches(data, 6, 1), 3)]
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        parts.append(list(islice(TrainingBatches(data, 6, 1, turns=turns), 3)))
    for step, batch in enumerate(whole):
        of_step = [part for steps in parts for part in steps[step]]
        assert len(of_step) == processes * turns
        for name in ("images", "labels"):
            assert torch.equal(torch.cat([getattr(part, name) for part in of_step]), getattr(batch, name))
        drawn = [part.batch_slice.random(2, generator=torch.Generator().manual_seed(7)) for part in of_step]
        assert torch.equal(torch.cat(drawn), torch.rand(6, 2, generator=torch.Generator().manual_seed(7)))


def test_a_batch_that_cannot_be_divided(monkeypatch):
    assert divide(6, 2) == [BatchSlice(0, 3, 6), BatchSlice(3, 3, 6)]
    with refused("batch of 6", "4 parts", "1 processes", "4 turns"):
        divide(6, 4)
    as_process(monkeypatch, 0, 2)
    with refused("batch of 6", "4 parts", "2 processes", "2 turns"):
        divide(6, 2)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_validate_on_every_image_once_and_on_as_many_batches(folder, monkeypatch, processes):
    data, seen, lengths = ImageDataset(folder, (16, 16), augment=False), [], []
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        batches = list(validation_batches(data, 4))
        seen += [i for batch in batches for i in indices(batch)[: batch.batch_slice.count]]
        lengths.append(len(batches))
    assert sorted(seen) == list(range(COUNT)) and len(set(lengths)) == 1


@pytest.mark.parametrize("limit", [1, 4, 10, 11, 100])
def test_validation_on_some_images_spreads_them_evenly(folder, limit):
    data = ImageDataset(folder, (16, 16), augment=False)
    in_order = [i for batch in validation_batches(data, 4) for i in indices(batch)]
    seen = [in_order.index(i) for batch in validation_batches(data, 4, limit) for i in indices(batch)]
    assert len(seen) == min(limit, COUNT) and seen[0] == 0
    gaps = {after - before for before, after in pairwise(seen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_validation_sees_every_image_once_in_order(folder):
    seen = list(validation_batches(ImageDataset(folder, (16, 16), augment=False), 4))
    assert [len(batch.images) for batch in seen] == [4, 4, 3]
    assert [i for batch in seen for i in indices(batch)] == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9]


def test_unreadable_images_are_named_in_their_batch(tmp_path):
    noise = make_images(tmp_path / "noise", 4)
    (noise / "1.png").write_bytes(b"no image")
    data = ImageDataset(scan_folder(noise), (16, 16))
    (batch,) = next(TrainingBatches(data, 4, 0))
    assert batch.images.shape == (4, 3, 16, 16)
    (name,) = batch.unreadable
    assert str(noise / "1.png") in name


def test_a_batch_larger_than_the_data(folder):
    data = ImageDataset(folder, (16, 16))
    check_data(data, None, COUNT)
    with refused("batch", COUNT + 1, COUNT):
        check_data(data, None, COUNT + 1)


def test_a_split_without_a_readable_image(tmp_path, folder):
    (tmp_path / "a.png").write_bytes(b"no image")
    data, broken = (ImageDataset(f, (16, 16)) for f in (folder, scan_folder(tmp_path)))
    for splits in ((broken, None), (data, broken)):
        with refused("none of the 1", tmp_path):
            check_data(*splits, 1)
