"""Token caches."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.data import cache
from nextscale.data.cache import is_cache, open_cache, shard_path, shards_of, start_cache
from nextscale.data.cache_shards import write_shard
from nextscale.data.content import Tokens
from nextscale.data.loader import TrainingBatches, validation_batches
from nextscale.io.tensor_files import read_tensors, write_tensors

LENGTH, VIEWS, COUNT = 5, 3, 7
INDEX = {"class_names": ["boot", "dress"], "images": {"train": COUNT, "val": 2}, "tokens": LENGTH, "crops": VIEWS}


def tokens_of(image: int, views: int = VIEWS) -> Tensor:
    """Tell image, view and place: (views, LENGTH)."""
    return 100 * image + 10 * torch.arange(views)[:, None] + torch.arange(LENGTH)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Shards of 3 images, of which number 4 could not be read."""
    monkeypatch.setattr(cache, "IMAGES_IN_SHARD", 3)
    start_cache(tmp_path, INDEX)
    for split, views in (("train", VIEWS), ("val", 1)):
        for i, images in enumerate(shards_of(INDEX["images"][split])):
            readable = [p for p in images if (split, p) != ("train", 4)]
            rows = torch.stack([tokens_of(p, views) for p in readable])
            (tmp_path / split).mkdir(exist_ok=True)
            write_shard(shard_path(tmp_path, split, i), rows, torch.tensor(readable) % 2)
    return tmp_path


def test_what_was_written_is_read(folder):
    train, val = open_cache(folder, seed=0)
    assert val is not None
    assert (len(train), len(val), train.views) == (COUNT - 1, 2, VIEWS)
    assert train.source.class_names == ("boot", "dress")
    for i, image in enumerate((0, 1, 2, 3, 5, 6)):
        content, label, unreadable, *_ = train[0, i]
        tokens = content.values
        assert tokens.dtype == torch.int64 and (tokens == tokens_of(image)).all(1).any()
        assert (label, unreadable) == (image % 2, ())
    assert [val[0, i].content.values.tolist() for i in range(2)] == [tokens_of(i, 1)[0].tolist() for i in range(2)]


def test_every_view_comes_up_and_depends_on_seed_epoch_and_index_alone(folder):
    def draw(seed: int) -> list[int]:
        data = open_cache(folder, seed)[0]
        return [int(data[epoch, i].content.values[0]) for epoch in range(20) for i in range(len(data))]

    assert draw(0) == draw(0) != draw(1)
    assert set(draw(0)) == {100 * p + 10 * v for p in (0, 1, 2, 3, 5, 6) for v in range(VIEWS)}


def test_large_tokens_are_kept(tmp_path):
    tokens = torch.tensor([[[0, 2**15 - 1]], [[1, 2**15]]])
    for rows in (tokens[:1], tokens):
        write_shard(tmp_path / "a.safetensors", rows, torch.zeros(len(rows)))
        assert torch.equal(read_tensors(tmp_path / "a.safetensors")["tokens"].long(), rows)


def test_batches(folder):
    train, val = open_cache(folder, seed=0)
    assert val is not None
    first, again = (list(islice(TrainingBatches(train, 2, start), 4)) for start in (0, 2))
    assert [b.content.values.shape for (b,) in first] == [(2, LENGTH)] * 4
    assert all(torch.equal(a.content.values, b.content.values) for (a,), (b,) in zip(first[2:], again, strict=False))
    (batch,) = validation_batches(val, 4)
    assert (
        isinstance(batch.content, Tokens) and batch.content.values.shape == (2, LENGTH) and batch.batch_slice.count == 2
    )


def test_what_is_a_cache(folder, tmp_path):
    assert is_cache(folder) and is_cache(str(folder))
    assert not is_cache(tmp_path / "none") and not is_cache("hf:photos")


def test_a_cache_begun_with_something_else(folder):
    start_cache(folder, INDEX)
    with refused(folder, "crops 3, not 4"):
        start_cache(folder, INDEX | {"crops": 4})
    assert json.loads((folder / "cache.json").read_text()) == INDEX


def test_a_cache_that_is_not_finished(folder):
    shard_path(folder, "train", 1).unlink()
    with refused(folder, "2 of 3 shards of train", "repeat the tokenize command"):
        open_cache(folder, 0)


def test_a_cache_without_a_readable_image(tmp_path):
    start_cache(tmp_path, INDEX | {"images": {"train": 0}})
    with refused(tmp_path, "no tokens to train on"):
        open_cache(tmp_path, 0)


def test_a_damaged_shard(folder):
    path = shard_path(folder, "train", 1)
    path.write_bytes(path.read_bytes()[:-7])
    with refused(path, "complete"):
        open_cache(folder, 0)


def test_a_shard_of_another_length(folder):
    path = shard_path(folder, "train", 1)
    write_shard(path, torch.zeros(3, VIEWS, LENGTH + 1), torch.zeros(3))
    with refused(path, (3, VIEWS, LENGTH + 1), LENGTH):
        open_cache(folder, 0)
    write_tensors(path, {"tokens": torch.zeros(3, VIEWS, LENGTH)})
    with refused(path, "labels"):
        open_cache(folder, 0)


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": 3}'])
def test_an_index_that_is_none(folder, content):
    (folder / "cache.json").write_text(content)
    with refused(folder / "cache.json"):
        open_cache(folder, 0)


@pytest.mark.parametrize(
    "changes",
    [{"images": {"train": 10**15}}, {"images": {"train": -1}}, {"images": {"train": "3"}}, {"class_names": "ab"}],
)
def test_an_index_of_absurd_values(folder, changes):
    index = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps(index | changes))
    with refused(folder):
        open_cache(folder, 0)


def test_tokens_that_are_no_integers(folder):
    path = shard_path(folder, "train", 1)
    write_tensors(path, {"tokens": torch.zeros(3, VIEWS, LENGTH), "labels": torch.zeros(3, dtype=torch.long)})
    with refused(path, "torch.float32", "expected integers"):
        open_cache(folder, 0)
