"""Computing features can be interrupted, resumed and divided without changing the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import refused
from tiny_gallery import Numbered, Table, normal
from torch import Tensor

from nextscale.evaluation import store as module
from nextscale.evaluation.gallery import ImageFile
from nextscale.evaluation.saving import NpzSaver, PngSaver
from nextscale.evaluation.store import FeatureStore
from nextscale.io.lock import LOCK, locked
from nextscale.runtime.progress import Progress

N, D = 23, 4
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(module, "IMAGES_IN_SHARD", 5)


def table(n: int = N) -> Table:
    return Table(normal(n, D), normal(n, 3, seed=1), normal(n, 2, seed=2).softmax(1))


def fill(store: FeatureStore, batch_size: int = 4, **more: Any) -> FeatureStore:
    return store.fill(batch_size, CPU, lambda count: Progress("", count, every=1e9), **more)


def whole(store: FeatureStore) -> dict[str, Tensor]:
    shards = list(store)
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_stored(tmp_path):
    stored = whole(fill(FeatureStore(tmp_path / "s", Numbered(N), extractor := table())))
    for name, tensor in extractor.tensors._asdict().items():
        assert torch.equal(stored[name], tensor)
    assert stored["index"].tolist() == list(range(N)) and stored["twice"].tolist() == [2 * i for i in range(N)]
    assert stored["label"].tolist() == [2 * i // N for i in range(N)]


def test_only_what_is_asked_for_is_kept(tmp_path):
    stored = whole(fill(FeatureStore(tmp_path / "s", Numbered(N), table(), ("pool",))))
    assert stored.keys() == {"pool", "index", "label", "twice"}


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_the_batch_size_makes_no_difference(tmp_path, batch_size):
    fill(FeatureStore(tmp_path / "a", Numbered(N), table()))
    fill(FeatureStore(tmp_path / "b", Numbered(N), extractor := table()), batch_size)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert max(extractor.batches) == min(batch_size, 5)


def test_killed_and_run_again(tmp_path):
    fill(FeatureStore(tmp_path / "a", Numbered(N), table()))

    class Killed(Numbered):
        def read(self, indices):
            if 12 in indices:
                raise KeyboardInterrupt
            return super().read(indices)

    with pytest.raises(KeyboardInterrupt):
        fill(FeatureStore(tmp_path / "b", Killed(N), table()))
    assert len(list((tmp_path / "b").glob("features-*"))) == 2
    store = fill(FeatureStore(tmp_path / "b", gallery := Numbered(N), table()))
    assert min(gallery.was_read) == 10
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    gallery.was_read.clear()
    fill(store)
    assert not gallery.was_read


def test_one_command_at_a_time(tmp_path):
    store = FeatureStore(tmp_path / "s", gallery := Numbered(N), table())
    with locked(tmp_path / "s"), refused("another command is writing to", tmp_path / "s"):
        fill(store)
    assert not gallery.was_read and not contents(tmp_path / "s")
    fill(store)
    assert not (tmp_path / "s" / LOCK).exists()


def test_processes_make_shares_of_what_is_missing(tmp_path, monkeypatch):
    """Files 0 .. 4, of which 1 is there: the first process makes 0 and 3, the second one 2 and 4."""
    fill(FeatureStore(tmp_path / "a", Numbered(N), table()))
    fill(FeatureStore(tmp_path / "b", Numbered(N), table()))
    for i in (0, 2, 3, 4):
        (tmp_path / "b" / f"features-{i:05d}.safetensors").unlink()
    monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(FeatureStore, "_is_done", lambda self, shard, saver: shard == 1)  # both look before they write
    read = []
    for process in range(2):
        monkeypatch.setattr(module, "rank", lambda process=process: process)
        fill(FeatureStore(tmp_path / "b", gallery := Numbered(N), table()))
        read.append(gallery.was_read)
    assert read == [[*range(5), *range(15, 20)], [*range(10, 15), *range(20, 23)]]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_begun_with_something_else(tmp_path):
    fill(FeatureStore(tmp_path / "s", Numbered(N), table()))
    with refused(tmp_path / "s", "numbered 23, not 24"):
        FeatureStore(tmp_path / "s", Numbered(N + 1), table())
    other = table()
    other.fingerprint = "4567"
    with refused("fingerprint 0123, not 4567"):
        FeatureStore(tmp_path / "s", Numbered(N), other)


def test_begun_with_other_files(tmp_path):
    def gallery(files: str, place: str) -> Numbered:
        numbered = Numbered(N)
        numbered.made_from |= {"files": files, "images": place}
        return numbered

    fill(FeatureStore(tmp_path / "s", gallery("0a", "there"), table()))
    FeatureStore(tmp_path / "s", gallery("0a", "elsewhere"), table())
    with refused("numbered", "have changed since", f"delete {tmp_path / 's'}"):
        FeatureStore(tmp_path / "s", gallery("0b", "there"), table())


def test_features_that_are_not_finite(tmp_path):
    extractor = table()
    extractor.tensors.pool[7] = torch.nan
    with refused("pool features of numbered by table", "1 of 3", "not finite"):
        fill(FeatureStore(tmp_path / "s", Numbered(N), extractor), batch_size=3)
    assert not (tmp_path / "s" / "features-00001.safetensors").exists()


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    broken = [0, 3, *range(5, 10)]
    store = fill(FeatureStore(tmp_path / "s", Numbered(N, broken=broken), extractor := table()))
    there = [i for i in range(N) if i not in broken]
    assert store.numbers().tolist() == there and store.count() == len(there)
    assert torch.equal(torch.cat(list(store.pool())), extractor.tensors.pool[there])


def test_no_image_at_all(tmp_path):
    store = fill(FeatureStore(tmp_path / "s", Numbered(3, broken=range(3)), table()))
    with refused("none of the 3 images in numbered"):
        store.count()


def test_a_damaged_file(tmp_path):
    store = fill(FeatureStore(tmp_path / "s", Numbered(N), table()))
    store.path(1).write_bytes(b"nothing")
    with refused(store.path(1), "delete it"):
        store.count()


def test_deleted(tmp_path):
    store = fill(FeatureStore(tmp_path / "new" / "s", Numbered(N), table()))
    (tmp_path / "new" / "other").touch()
    store.delete()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other"]


def test_images_are_kept_beside_features(tmp_path):
    pixels = Numbered(N).read(range(N)).pixels
    labels = Numbered(N).read(range(N)).labels.tolist()
    saver = PngSaver(tmp_path / "png", labels, ("a", "b/c"))
    store = fill(FeatureStore(tmp_path / "s", Numbered(N), table()), saver=saver)
    assert len(contents(tmp_path / "png")) == N and (tmp_path / "png" / "b_c" / "000022.png").is_file()
    saver.path(6).unlink()
    again = FeatureStore(tmp_path / "s", gallery := Numbered(N), table())
    fill(again, saver=saver)
    assert gallery.was_read == list(range(5, 10)) and saver.path(6).is_file()

    array = NpzSaver(tmp_path / "all.npz", (N, 2, 3), labels, ("a", "b/c"))
    fill(store, saver=array)
    array.finish()
    file = ImageFile(tmp_path / "all.npz")
    read = file.read(range(N))
    assert file.class_names == ("a", "b/c")
    assert torch.equal(read.pixels, pixels) and read.labels.tolist() == labels
    assert not (tmp_path / "all").exists()
    array.finish()
    assert array.has(range(5))


def test_images_without_classes(tmp_path):
    assert PngSaver(tmp_path, [0, 0], ()).path(1) == tmp_path / "000001.png"


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a" * 256, "é" * 128])
def test_classes_whose_name_cannot_be_a_folder(tmp_path, name):
    saver = PngSaver(tmp_path / "png", [0, 1], ("hat", name))
    assert saver.path(1) == tmp_path / "png" / "class-1" / "000001.png"
    assert saver.path(0) == tmp_path / "png" / "hat" / "000000.png"


def test_the_longest_name_of_a_class(tmp_path):
    saver = PngSaver(tmp_path / "png", [0], ("a" * 255,))
    saver.save([0], torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert saver.has([0]) and saver.path(0).parent.name == "a" * 255
