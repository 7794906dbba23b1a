"""Images and classes in .tar shards, and their positions."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from tiny import refused
from tiny_data import write_shard
from tiny_runs import make_images

from nextscale.data.samples import index_shard
from nextscale.data.shards import expand_ranges
from nextscale.data.source import ImageSource
from nextscale.data.splits import find_sources


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> bytes:
    return (make_images(tmp_path_factory.mktemp("png") / "png", 1) / "0.png").read_bytes()


def names(source: ImageSource | None) -> list[str]:
    """The images' names in their shards."""
    assert source is not None
    return [source.name(i).split(" in ")[0] for i in range(len(source))]


def texts(source: ImageSource) -> list[str]:
    """The images' classes."""
    return [source.class_names[label] for label in source.labels]


def test_files_with_one_key_are_a_sample(tmp_path, png):
    """The key ends at the first dot behind the last slash."""
    files = {
        "v1.0/a.jpg": png,
        "v1.0/a.seg.png": b"",
        "v1.0/a.cls": b"boot",
        "b.cls": b"hat\n",
        "c.PNG": png,
        "b.webp": png,
        "c.cls": b"hat",
        "d.json": b'{"label": "boot"}',
        "d.jpeg": png,
    }
    write_shard(tmp_path / "a.tar", files)
    source, val = find_sources(str(tmp_path / "a.tar"))
    assert names(source) == ["v1.0/a.jpg", "b.webp", "c.PNG", "d.jpeg"] and val is None
    assert texts(source) == ["boot", "hat", "hat", "boot"]
    assert all(source.read(i).size == (14, 11) for i in range(4))


def test_files_without_a_key_belong_to_no_sample(tmp_path, png):
    write_shard(
        tmp_path / "a.tar", {"README": b"", ".index.json": b"", "x/.DS_Store": b"", "a.png": png, "a.cls": b"1"}
    )
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        tar.addfile(link)
    assert names(find_sources(str(tmp_path / "a.tar"))[0]) == ["a.png"]


@pytest.mark.parametrize("folder", ["__MACOSX/", "./__MACOSX/", "x/@eaDir/", ".ipynb_checkpoints/"])
def test_files_in_folders_of_the_system_belong_to_no_sample(tmp_path, png, folder):
    write_shard(tmp_path / "a.tar", {"./a.png": png, "./a.cls": b"1", f"{folder}a.png": png})
    assert names(find_sources(str(tmp_path / "a.tar"))[0]) == ["./a.png"]


def test_other_endings_of_jpeg_files(tmp_path, png):
    files = {"a.jfif": png, "a.cls": b"1", "b.JPE": png, "b.cls": b"1"}
    write_shard(tmp_path / "a.tar", files)
    assert names(find_sources(str(tmp_path / "a.tar"))[0]) == ["a.jfif", "b.JPE"]


def test_folders_of_the_system_beside_shards(tmp_path, png):
    make_shards(tmp_path / "shards", png, "train/0", "train/@eaDir/0", "val/0", "val/__MACOSX/0", "@eaDir/1")
    source, val = find_sources(str(tmp_path / "shards"))
    assert names(source) == names(val) == ["0.png"]


LABELS = {
    "a.cls": (b" 7\n", "7"),
    "b.cls": ("Schuh, groß".encode(), "Schuh, groß"),
    "c.json": (b'{"label": 7}', "7"),
    "d.json": (b'{"cls": "boot", "width": 14}', "boot"),
    "e.json": (b'{"label": "boot", "cls": 7}', "boot"),
    "f.json": (b'{"label": 0}', "0"),
    "g.cls": (b"", None),
    "h.json": (b'{"label": null}', None),
    "i.json": (b'{"caption": "a boot"}', None),
    "j.json": (b"[]", None),
    "k.txt": (b"a boot", None),
}


def test_labels(tmp_path, png):
    files = {name: content for name, (content, _) in LABELS.items()} | {f"{name[0]}.png": png for name in LABELS}
    samples = index_shard(write_shard(tmp_path / "a.tar", files))
    assert {sample.key: sample.label for sample in samples} == {name[0]: label for name, (_, label) in LABELS.items()}


def test_a_label_in_cls_counts_before_json(tmp_path, png):
    files = {"a.json": b'{"label": "boot"}', "a.png": png, "a.cls": b"hat"}
    (sample,) = index_shard(write_shard(tmp_path / "a.tar", files))
    assert sample.label == "hat"


def test_without_any_label_there_is_one_class(tmp_path, png):
    write_shard(tmp_path / "photos" / "a.tar", {"a.png": png, "a.json": b'{"width": 14}', "b.png": png})
    source, _ = find_sources(str(tmp_path / "photos"))
    assert source.class_names == ("photos",) and tuple(source.labels) == (0, 0)


def test_classes_that_are_numbers_come_in_their_order(tmp_path, png):
    for label in (10, 9, 2):
        write_shard(tmp_path / f"{label:02d}.tar", {"a.png": png, "a.cls": str(label).encode()})
    source, _ = find_sources(str(tmp_path))
    assert source.class_names == ("2", "9", "10") and texts(source) == ["2", "9", "10"]


def make_shards(folder: Path, png: bytes, *stems: str) -> None:
    """Shards of one image each, called after their shard."""
    for stem in stems:
        write_shard(folder / f"{stem}.tar", {f"{Path(stem).name}.png": png, f"{Path(stem).name}.cls": b"1"})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("x-{08..10}.tar", ["x-08", "x-09", "x-10"]),
        ("x-{8..10}.tar", ["x-8", "x-9", "x-10"]),
        ("x-{0..1}{0..1}.tar", ["x-00", "x-01", "x-10", "x-11"]),
        ("x.tar", ["x"]),
    ],
)
def test_ranges(pattern, found):
    assert list(expand_ranges(pattern)) == [f"{name}.tar" for name in found]


def test_patterns(tmp_path, png):
    make_shards(tmp_path, png, "x-000", "x-001", "x-002", "y-000", "[z]/z")
    for pattern, found in (
        ("x-{000..001}.tar", ["x-000", "x-001"]),
        ("x-*.tar", ["x-000", "x-001", "x-002"]),
        ("?-000.tar", ["x-000", "y-000"]),
        ("[xy]-{000..000}.tar", ["x-000", "y-000"]),
        ("[z]/z.tar", ["z"]),
    ):
        source, val = find_sources(str(tmp_path / pattern))
        assert names(source) == [f"{name}.png" for name in found] and val is None


@pytest.mark.parametrize(
    ("train", "val", "others"),
    [
        (["train-000", "train-001"], ["val-000"], []),
        (["imagenet-train-0"], ["imagenet-validation-0"], ["imagenet-test-0"]),
        (["Train_0"], ["Test_0"], []),
        (["train/0", "train/1"], ["val/0"], ["2"]),
        (["training/0"], ["test/0"], []),
        (["train/0"], [], []),
        (["train-0", "extra"], [], []),
        (["val-0", "val-1"], [], []),
        (["trainers", "vale"], [], []),
    ],
)
def test_splits_of_a_folder(tmp_path, png, train, val, others):
    make_shards(tmp_path / "shards", png, *train, *val, *others)
    source, held_out = find_sources(str(tmp_path / "shards"))
    assert sorted(names(source)) == sorted(f"{Path(stem).name}.png" for stem in train)
    assert (names(held_out) if held_out else []) == [f"{Path(stem).name}.png" for stem in val]


def test_splits_of_a_pattern(tmp_path, png):
    make_shards(tmp_path, png, "train-0", "train-1", "val-0")
    source, val = find_sources(str(tmp_path / "*.tar"))
    assert len(source) == 2 and names(val) == ["val-0.png"]


def test_shards_beside_folders_of_images_are_left_alone(tmp_path, png):
    make_images(tmp_path / "data" / "train" / "boot", 2)
    make_shards(tmp_path / "data", png, "train", "train/boot")
    source, _ = find_sources(str(tmp_path / "data"))
    assert source.class_names == ("boot",) and len(source) == 2


def cut(shard: Path, png: bytes) -> tuple[bytes, int]:
    """(a whole shard, where its last file ends)."""
    write_shard(shard, {"a.png": png, "a.cls": b"boot", "b.png": png, "b.cls": b"hat"})
    with tarfile.open(shard) as tar:
        end = max(member.offset_data for member in tar) + tarfile.BLOCKSIZE
    return shard.read_bytes(), end


def test_a_truncated_shard_is_refused(tmp_path, png):
    """Wherever it ends, unless only the blank end of the file is missing."""
    shard = tmp_path / "a.tar"
    whole, end = cut(shard, png)
    for length in (*range(0, end + tarfile.BLOCKSIZE, tarfile.BLOCKSIZE), 1, 700, end - 1, end + 1):
        shard.write_bytes(whole[:length])
        with refused(shard, "not a complete"):
            find_sources(str(shard))
    shard.write_bytes(whole[: end + tarfile.BLOCKSIZE])
    assert names(find_sources(str(shard))[0]) == ["a.png", "b.png"]


def test_a_damaged_shard_is_refused(tmp_path, png):
    """Also where its first files are whole."""
    shard = tmp_path / "a.tar"
    whole, end = cut(shard, png)
    for block in (0, end - 2 * tarfile.BLOCKSIZE):
        shard.write_bytes(whole[:block] + b"\xff" * 100 + whole[block + 100 :])
        with refused(shard, "not a complete"):
            find_sources(str(shard))


def test_a_shard_that_changes_later_costs_its_images_alone(tmp_path, png):
    shard = write_shard(tmp_path / "a.tar", {"a.png": png, "b.png": png})
    source, _ = find_sources(str(shard))
    with tarfile.open(shard) as tar:
        end = max(member.offset_data for member in tar)
    shard.write_bytes(shard.read_bytes()[: end + 20])
    assert source.read(0).size == (14, 11)
    with refused("b.png in", shard):
        source.read(1)
    shard.unlink()
    with refused("a.png in", shard, "No such file"):
        source.read(0)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "no image": ({"a.cls": 1, "b.png": "", "b.cls": 1}, "sample a in {shard} has no image"),
    "no label": ({"a.png": "", "a.cls": 1, "b.png": ""}, "sample b in {shard} has no label"),
    "two images": ({"a.png": "", "a.jpg": "", "a.cls": 1}, "sample a in {shard} has 2 images"),
    "one file twice": ({"a.png": "", "a.PNG": "", "a.cls": 1}, "sample a in {shard} has two files .png"),
    "no json": ({"a.png": "", "a.json": "{"}, "a.json in {shard}"),
    "no text": ({"a.png": "", "a.cls": b"\xff"}, "a.cls in {shard}"),
    "no name": ({"a.png": "", "a.json": json.dumps({"label": [1, 2]})}, "a.json in {shard} is [1, 2]"),
    "a fraction": ({"a.png": "", "a.json": json.dumps({"label": 0.5})}, "0.5"),
    "nothing": ({}, "no images in {shard}"),
    "nothing with a key": ({"README": ""}, "no images in {shard}"),
}


@pytest.mark.parametrize(("files", "word"), BAD.values(), ids=BAD)
def test_bad_samples(tmp_path, files, word):
    contents = {name: c if isinstance(c, bytes) else str(c).encode() for name, c in files.items()}
    shard = write_shard(tmp_path / "a.tar", contents)
    with refused(word.format(shard=shard)):
        find_sources(str(shard))


def test_what_is_not_there(tmp_path, png):
    make_shards(tmp_path, png, "x-0", "x-1")
    for pattern, word in (
        ("y.tar", "no shard"),
        ("y-*.tar", "no shard"),
        ("x-{0..2}.tar", f"no shard {tmp_path}/x-2.tar"),
        ("x-{1..0}.tar", "smaller"),
    ):
        with refused(tmp_path / pattern, word):
            find_sources(str(tmp_path / pattern))


def test_what_is_no_plain_tar(tmp_path, png):
    shard = write_shard(tmp_path / "a.tar", {"a.png": png})
    for name in ("a.tar.gz", "a.tgz", "b.tar"):
        (tmp_path / name).write_bytes(gzip.compress(shard.read_bytes()))
        with refused(tmp_path / name, "uncompressed" if name == "b.tar" else "is compressed"):
            find_sources(str(tmp_path / name))
    (tmp_path / "c.tar").mkdir()
    with refused("no images", tmp_path / "c.tar"):
        find_sources(str(tmp_path / "c.tar"))


def test_validation_that_does_not_fit_training(tmp_path, png):
    write_shard(tmp_path / "train-0.tar", {"a.png": png, "a.cls": b"hat", "b.png": png, "b.cls": b"shoe"})
    write_shard(tmp_path / "val-0.tar", {"a.png": png, "a.cls": b"boot"})
    with refused(f"{tmp_path} (val)", "'boot'", "hat, shoe"):
        find_sources(str(tmp_path))
    write_shard(tmp_path / "val-0.tar", {"a.png": png})
    with refused(f"{tmp_path} (val)", "no labels", "hat, shoe"):
        find_sources(str(tmp_path))


def test_shards_to_train_on_beside_images_for_validation(tmp_path, png):
    make_shards(tmp_path, png, "train/0")
    make_images(tmp_path / "val" / "boot", 1)
    with refused(tmp_path / "train", tmp_path / "val"):
        find_sources(str(tmp_path))
