"""All kinds of data sets with the same captions give the same captioned examples."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from tiny import refused
from tiny_data import CAPTIONED, KINDS, Captions, Images, caption_key, make_files, write_shard
from tiny_runs import make_images

from nextscale.data.captions import caption_columns, captioned, captions_in
from nextscale.data.loader import TrainingBatches
from nextscale.data.splits import find_sources, open_image_splits

SIZE = (8, 8)


@pytest.fixture
def images(tmp_path) -> Images:
    return make_files(tmp_path / "files")


@pytest.fixture
def captions(images) -> Captions:
    """One caption for each image."""
    keys = [caption_key(path) for paths in images.values() for path in paths]
    return {key: [f"a photo of {key}, »groß«, with a comma"] for key in keys}


@pytest.mark.parametrize("kind", CAPTIONED)
def test_examples_have_the_captions_of_their_images(kind, images, captions, tmp_path):
    data = CAPTIONED[kind](images, captions, tmp_path / "place")
    plain = open_image_splits(KINDS["folder"](images, Path()), SIZE, seed=3)
    for split, ours, theirs in zip(images, open_image_splits(data, SIZE, seed=3, captions=True), plain, strict=True):
        assert ours is not None and theirs is not None and len(ours) == len(theirs)
        for epoch in (0, 5):
            for i, path in enumerate(images[split]):
                assert ours[epoch, i].caption == captions[caption_key(path)][0]
                assert torch.equal(ours[epoch, i].image, theirs[epoch, i].image)
                assert ours[epoch, i].label == theirs[epoch, i].label


@pytest.mark.parametrize("kind", CAPTIONED)
def test_captions_do_not_change_data_with_labels(kind, images, captions, tmp_path):
    data = CAPTIONED[kind](images, captions, tmp_path / "place")
    for ours, theirs in zip(
        open_image_splits(data, SIZE, 3), open_image_splits(KINDS["folder"](images, Path()), SIZE, 3), strict=True
    ):
        assert ours is not None and theirs is not None
        assert ours.source.class_names == theirs.source.class_names and len(ours) == len(theirs)
        for i in range(len(ours)):
            assert torch.equal(ours[1, i].image, theirs[1, i].image) and ours[1, i].caption == ""


@pytest.mark.parametrize("kind", ["csv", "json lines", "huggingface"])
def test_one_of_several_captions_by_seed_epoch_and_index(kind, images, captions, tmp_path):
    captions |= {"boot/0": ["first", "second"]}
    train, _ = open_image_splits(CAPTIONED[kind](images, captions, tmp_path / "place"), SIZE, seed=4, captions=True)
    drawn = [train[epoch, 0].caption for epoch in range(200)]
    again = pickle.loads(pickle.dumps(train))
    assert drawn == [again[epoch, 0].caption for epoch in range(200)]
    assert all(70 < count < 130 for count in Counter(drawn).values()) and set(drawn) == {"first", "second"}
    other, _ = open_image_splits(CAPTIONED[kind](images, captions, tmp_path / "other"), SIZE, seed=5, captions=True)
    assert drawn != [other[epoch, 0].caption for epoch in range(200)]


@pytest.mark.parametrize("kind", CAPTIONED)
def test_an_image_without_a_caption_is_skipped_and_named(kind, images, captions, tmp_path):
    captions |= {"boot/1": []}
    train, _ = open_image_splits(CAPTIONED[kind](images, captions, tmp_path / "place"), SIZE, seed=0, captions=True)
    example = train[0, 1]
    assert example.caption == captions["boot/2"][0]
    assert example.unreadable == (f"{train.source.name(1)} has no caption",)
    assert not train[0, 2].unreadable


@pytest.mark.parametrize("kind", CAPTIONED)
def test_a_broken_image_is_skipped_with_its_caption(kind, images, captions, tmp_path):
    images["train"][0].write_bytes(b"no image")
    train, _ = open_image_splits(CAPTIONED[kind](images, captions, tmp_path / "place"), SIZE, seed=0, captions=True)
    example = train[0, 0]
    assert example.caption == captions["boot/1"][0] and train.source.name(0) in example.unreadable[0]


@pytest.mark.parametrize("kind", KINDS)
def test_data_without_captions(kind, images, tmp_path):
    data = KINDS[kind](images, tmp_path / "place")
    with refused("captions", "expected a file such as" if kind == "folder" else "no c"):
        open_image_splits(data, SIZE, seed=0, captions=True)


def test_batches_carry_captions_however_they_are_divided(images, captions, tmp_path):
    data = CAPTIONED["csv"](images, captions, tmp_path / "place")
    train, _ = open_image_splits(data, SIZE, seed=0, captions=True)
    whole = [batch for (batch,) in islice(TrainingBatches(train, 4, 1), 3)]
    parts = islice(TrainingBatches(train, 4, 1, workers=1, turns=2), 3)
    for batch, halves in zip(whole, parts, strict=True):
        assert len(set(batch.captions)) == 4
        assert batch.captions == halves[0].captions + halves[1].captions


def test_held_out_images_keep_their_captions(tmp_path):
    folder = make_images(tmp_path / "photos", 20)
    for path in folder.glob("*.png"):
        path.with_suffix(".txt").write_text(f"number {path.stem}")
    splits = open_image_splits(folder, SIZE, 0, val_fraction=0.3, captions=True)
    plain = open_image_splits(folder, SIZE, 0, val_fraction=0.3)
    for ours, theirs in zip(splits, plain, strict=True):
        assert ours is not None and theirs is not None and len(ours) == len(theirs) < 20
        for i in range(len(ours)):
            assert ours.source.key(i) == theirs.source.key(i) == f"{ours[0, i].caption.split()[1]}.png"
            assert captioned(ours.source).captions(i) == (ours[0, i].caption,)


def test_a_text_file_is_one_caption(tmp_path):
    folder = make_images(tmp_path / "photos", 1)
    (folder / "0.txt").write_bytes(b"\xef\xbb\xbfa red fox,\r\n  in the snow\n\n")
    assert open_image_splits(folder, SIZE, 0, captions=True)[0][0, 0].caption == "a red fox, in the snow"


def test_text_files_that_are_no_captions_are_named(tmp_path):
    folder = make_images(tmp_path / "photos", 2)
    for name in ("0.txt", "1.txt", "readme.txt", "notes.md"):
        (folder / name).write_text("a text")
    source, _ = find_sources(str(folder), captions=True)
    skipped = "skipped files that do not end like images"
    assert source.notes == (
        f"{folder}: {skipped} (1: .md 1): notes.md",
        f"{folder}: skipped captions without an image (1): readme.txt",
    )
    (note,) = find_sources(str(folder))[0].notes
    assert ".txt 3" in note


def test_a_caption_that_is_not_text(tmp_path):
    folder = make_images(tmp_path / "photos", 2)
    (folder / "0.txt").write_bytes(b"caf\xe9")
    (folder / "1.txt").write_text("a cup")
    example = open_image_splits(folder, SIZE, 0, captions=True)[0][0, 0]
    assert example.caption == "a cup" and str(folder / "0.txt") in example.unreadable[0]
    assert open_image_splits(folder, SIZE, 0, captions=True)[0].captions() == ["a cup"]
    for path in folder.glob("*.txt"):
        path.write_text(" \n")
    with refused("none of the 2 images", "can be used", "0.png has no caption"):
        open_image_splits(folder, SIZE, 0, captions=True)[0][0, 0]


def test_a_folder_that_has_its_captions_in_a_table(tmp_path):
    """As "image folders" of the Hugging Face hub have them: the table is the data."""
    folder = make_images(tmp_path / "photos", 1)
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a cup"}')
    with refused("no captions", "0.txt beside", f"or a table as the data, such as {folder / 'metadata.jsonl'}"):
        open_image_splits(folder, SIZE, 0, captions=True)
    assert open_image_splits(folder / "metadata.jsonl", SIZE, 0, captions=True)[0][0, 0].caption == "a cup"


def test_labels_are_not_needed_beside_captions(tmp_path):
    """Without captions being asked for, too: a tokenizer needs neither."""
    folder = make_images(tmp_path / "photos", 2)
    (folder / "a.csv").write_text("file_name,text\n0.png,a fox\n1.png,a cat\n")
    (folder / "b.jsonl").write_text(
        '{"file_name": "0.png", "text": "a fox"}\n\n{"file_name": "1.png", "text": "a cat"}\n'
    )
    for name in ("a.csv", "b.jsonl"):
        for captions in (False, True):
            train, _ = open_image_splits(folder / name, SIZE, 0, captions=captions)
            assert train.source.class_names == ("photos",) and len(train) == 2
            assert train[0, 1].caption == ("a cat" if captions else "")
    png = (folder / "0.png").read_bytes()
    write_shard(tmp_path / "a.tar", {"0.png": png, "0.json": b'{"caption": "from json"}', "0.txt": b"from txt"})
    assert open_image_splits(tmp_path / "a.tar", SIZE, 0, captions=True)[0][0, 0].caption == "from txt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{\n", ["line 1 of", "not JSON"]),
        ("[]\n", ["line 1 of", "expected a JSON object"]),
        ('{"file": "0.png", "text": 3}', ["text of line 1", "3", "expected a text or a list of texts"]),
        ('{"file": "0.png", "texts": ["a", 4]}', ["texts of line 1", "expected a text or a list of texts"]),
        ('{"file": "0.png", "text": "\\ud800"}', ["line 1", "not UTF-8"]),
        ('{"file": "0.png", "text": "a", "label": "\\ud800"}', ["line 1", "label", "not UTF-8"]),
        ('{"file": "\\ud800.png", "text": "a"}', ["1 of the 1 files", "missing"]),
        ('{"file": ["0.png"], "text": "a"}', ["line 1", "['0.png']", "expected a text or a number"]),
        ('{"file": "0.png", "note": "a"}', ["no column of captions (caption, text", "among file, note"]),
        ('{"text": "a"}', ["no column 'file'", "text"]),
        ("", ["no column 'file'"]),
    ],
)
def test_bad_json_lines(tmp_path, text, words):
    folder = make_images(tmp_path / "photos", 1)
    (folder / "a.jsonl").write_text(text)
    with refused(folder / "a.jsonl", *words):
        open_image_splits(folder / "a.jsonl", SIZE, 0, captions=True)


def test_a_damaged_caption_in_a_shard(tmp_path):
    png = (make_images(tmp_path / "photos", 1) / "0.png").read_bytes()
    files = {"a.png": png, "a.cls": b"1", "a.json": b"{", "b.png": png, "b.cls": b"1", "b.txt": b"b"}
    files |= {"c.png": png, "c.cls": b"1", "c.json": json.dumps({"caption": {"en": "c"}}).encode()}
    write_shard(tmp_path / "a.tar", files)
    train, _ = open_image_splits(tmp_path / "a.tar", SIZE, 0, captions=True)
    assert train[0, 1].caption == "b"
    assert "a.json in" in train[0, 0].unreadable[0] and train[0, 0].caption == "b"
    assert "caption of c.json in" in train[0, 2].unreadable[0]


def test_names_of_columns():
    names = ["file", "caption", "Captions", "text_2", "prompt 3", "description", "context", "caption_en", "texts-10"]
    assert caption_columns(names) == ["caption", "Captions", "text_2", "prompt 3", "description", "texts-10"]
    record = {"caption": " a  b ", "texts": ["", "c\nd"], "prompt": None, "label": "e"}
    assert captions_in(record, "a record") == ("a b", "c d")
