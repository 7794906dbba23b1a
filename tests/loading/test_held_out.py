"""Images held out for validation by their names."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
from tiny import refused
from tiny_data import write_shard
from tiny_runs import make_images

from nextscale.data.held_out import VAL_FRACTION, held_out_fraction, hold_out
from nextscale.data.source import ImageSource
from nextscale.data.splits import find_sources, open_splits

COUNT = 30


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of thirty images."""
    for i, name in enumerate(("boot", "dress")):
        make_images(tmp_path / "photos" / name, COUNT, seed=i, size=(3, 2))
    return tmp_path / "photos"


def parts(data: object, fraction: float = 0.2) -> tuple[ImageSource, ImageSource]:
    train, val = hold_out(find_sources(str(data)), fraction)
    assert val is not None
    return train, val


def keys(source: ImageSource) -> list[str]:
    return [source.key(i) for i in range(len(source))]


def as_table(photos: Path) -> str:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = [f"{name},{name.split('/')[0]}\n" for name in names]
    (photos / "labels.csv").write_text("file,label\n" + "".join(rows))
    return str(photos / "labels.csv")


def as_shards(photos: Path) -> str:
    for folder in sorted(photos.iterdir()):
        files = {}
        for path in sorted(folder.iterdir()):
            files |= {f"{path.stem}.png": path.read_bytes(), f"{path.stem}.cls": folder.name.encode()}
        write_shard(photos.parent / "shards" / f"{folder.name}.tar", files)
    return str(photos.parent / "shards")


def as_huggingface(photos: Path) -> str:
    import datasets

    datasets.disable_progress_bars()
    paths = sorted(photos.rglob("*.png"))
    columns = {"image": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["boot", "dress"]))
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(photos.parent / "saved")
    return f"hf:{photos.parent / 'saved'}"


KINDS = {"folder": str, "table": as_table, "shards": as_shards, "huggingface": as_huggingface}


@pytest.fixture(params=KINDS)
def data(request, photos) -> str:
    return KINDS[request.param](photos)


def test_every_kind_is_divided(data):
    """Each image is in one part, as it is in the whole, and the parts are told from each other and from the whole."""
    whole, _ = find_sources(data)
    train, val = parts(data)
    assert 2 <= len(val) <= 25 and len(train) + len(val) == len(whole) == 2 * COUNT
    assert sorted(keys(train) + keys(val)) == sorted(keys(whole)) and len(set(keys(whole))) == 2 * COUNT
    for part in (train, val):
        assert part.class_names == ("boot", "dress") and part.root == whole.root
        for i in (0, len(part) - 1):
            j = keys(whole).index(part.key(i))
            assert part.read(i).tobytes() == whole.read(j).tobytes()
            assert part.labels[i] == whole.labels[j] and part.name(i) == whole.name(j)
        assert pickle.loads(pickle.dumps(part)).key(0) == part.key(0)
        assert held_out_fraction(part) == 0.2
    assert len({train.stamp(), val.stamp(), whole.stamp()}) == 3
    assert parts(data)[1].stamp() == val.stamp() and keys(parts(data)[1]) == keys(val)


def test_it_is_said_once(data):
    train, val = parts(data)
    (note,) = train.notes
    assert not val.notes
    for words in (str(train.root), f"{len(val)} of its {2 * COUNT} images", "--val-fraction 0"):
        assert words in note


def test_a_table_of_the_files_holds_out_the_same_images(photos):
    assert keys(parts(as_table(photos))[1]) == keys(parts(photos)[1])


def test_the_fraction(tmp_path):
    make_images(tmp_path / "photos", 500, size=(1, 1))
    held_out = {}
    for fraction in (0.01, VAL_FRACTION, 0.5, 0.9):
        held_out[fraction] = {*keys(parts(tmp_path / "photos", fraction)[1])}
        assert abs(len(held_out[fraction]) / 500 - fraction) < 4 * (fraction * (1 - fraction) / 500) ** 0.5
    assert held_out[0.01] < held_out[VAL_FRACTION] < held_out[0.5] < held_out[0.9]


def test_adding_images_does_not_move_others(photos):
    before = {*keys(parts(photos)[1])}
    everything = {*keys(find_sources(str(photos))[0])}
    shutil.move(make_images(photos.parent / "new", COUNT, size=(3, 2)), photos / "hat")
    for i in range(COUNT):
        shutil.copy(photos / "boot" / "0.png", photos / "boot" / f"new-{i}.png")
    after = {*keys(parts(photos)[1])}
    assert after & everything == before < after


def test_neither_place_nor_content_matters(photos, tmp_path, monkeypatch):
    before = keys(parts(photos)[1])
    for path in photos.rglob("*.png"):
        shutil.copy(photos / "boot" / "0.png", path) if path.name != "0.png" else None
    (tmp_path / "moved").mkdir()
    photos.rename(tmp_path / "moved" / "photos")
    assert keys(parts(tmp_path / "moved" / "photos")[1]) == before
    monkeypatch.chdir(tmp_path / "moved" / "photos")
    assert keys(parts(".")[1]) == before


def test_it_does_not_depend_on_the_name_of_a_flat_folder(photos):
    held_out = [keys(parts(photos / "boot")[1])]
    (photos / "boot").rename(photos / "other")
    assert [keys(parts(photos / "other")[1])] == held_out


def test_a_class_keeps_an_image(tmp_path):
    for i in range(20):
        make_images(tmp_path / f"single{i}", 1, size=(1, 1))
        make_images(tmp_path / f"two{i}", 2, size=(1, 1))
    for fraction in (0.05, 0.5, 0.99):
        train, val = parts(tmp_path, fraction)
        assert {*train.labels} == {*range(40)} and len(val)
        assert not any("single" in key for key in keys(val))
    assert len(val) == 20


def test_a_small_data_set_has_one_image_held_out(tmp_path):
    for i in range(30):
        folder = make_images(tmp_path / f"{i}" / "boot", 2, size=(1, 1)).parent
        (folder / "boot" / "1.png").rename(folder / "boot" / f"{i}-1.png")
        train, val = parts(folder, 1e-6)
        assert len(train) == len(val) == 1


def test_nothing_can_be_held_out(tmp_path):
    make_images(tmp_path / "boot", 1)
    make_images(tmp_path / "dress", 1)
    splits = find_sources(str(tmp_path))
    assert hold_out(splits, 0.5) is splits and held_out_fraction(splits[0]) == 0


def test_zero_and_a_split_of_its_own_change_nothing(photos):
    splits = find_sources(str(photos))
    assert hold_out(splits, 0) is splits
    photos.rename(photos.parent / "train")
    make_images(photos.parent / "val" / "boot", 2)
    splits = find_sources(str(photos.parent))
    assert splits[1] is not None and hold_out(splits, 0.5) is splits


def test_an_image_that_cannot_be_read_is_not_the_only_one(tmp_path):
    """One broken file must not stop training."""
    folder = make_images(tmp_path / "photos", 4)
    first = keys(parts(folder, 1e-6)[1])
    (folder / first[0]).write_bytes(b"no image")
    second = keys(parts(folder, 1e-6)[1])
    assert len(second) == 1 and second != first
    for path in folder.iterdir():
        if path.name not in second:
            path.write_bytes(b"no image")
    splits = find_sources(str(folder))
    (folder / second[0]).write_bytes(b"no image")
    assert hold_out(splits, 0.5) is splits


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), float("inf"), "half"])
def test_bad_fractions(photos, fraction):
    with refused("val_fraction", fraction):
        open_splits(photos, (2, 2), 0, val_fraction=fraction)


def test_names_that_are_not_utf8(tmp_path):
    folder = make_images(tmp_path / os.fsdecode(b"\xe9") / "boot", 9).parent
    for i in range(9):
        os.rename(folder / "boot" / f"{i}.png", os.fsencode(folder / "boot") + b"/\xe9%d.png" % i)
    train, val = parts(folder, 0.3)
    assert len(train) + len(val) == 9 and val.read(0).size == (14, 11)
    assert len({train.stamp(), val.stamp()}) == 2


def test_normal_forms_of_unicode_are_one_name(tmp_path):
    """macOS writes é as e and an accent."""
    held_out = []
    for form, letter in (("composed", "\u00e9"), ("decomposed", "e\u0301")):
        folder = make_images(tmp_path / form, 40, size=(1, 1))
        for path in folder.iterdir():
            path.rename(folder / f"{letter}{path.name}")
        held_out.append([key[len(letter) :] for key in keys(parts(folder, 0.3)[1])])
    assert held_out[0] == held_out[1]
