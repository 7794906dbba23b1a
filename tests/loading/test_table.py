"""Images and classes in a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import refused
from tiny_runs import make_images

from nextscale.data.names import sort_classes
from nextscale.data.splits import find_sources, open_splits


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with 0.png to 3.png."""
    return make_images(tmp_path / "photos", 4)


def write(photos: Path, text: str, name: str = "labels.csv") -> str:
    (photos / name).write_text(text, encoding="utf-8")
    return str(photos / name)


def test_rows_in_their_order(photos):
    source, val = find_sources(write(photos, "file,label\n2.png,hat\n0.png,boot\n1.png,hat\n"))
    assert [source.name(i) for i in range(3)] == [str(photos / name) for name in ("2.png", "0.png", "1.png")]
    assert source.class_names == ("boot", "hat") and tuple(source.labels) == (1, 0, 1)
    assert len(source) == 3 and val is None


@pytest.mark.parametrize("file", ["file", "path", "filename", "file_name", "image", " File "])
@pytest.mark.parametrize("label", ["label", "class", "Label"])
def test_names_of_columns(photos, file, label):
    source, _ = find_sources(write(photos, f"\ufeff{file},note,note,{label}\n0.png,,1,boot\n1.png,old,2,hat\n"))
    assert source.class_names == ("boot", "hat") and len(source) == 2


def test_quotes_spaces_empty_lines_and_other_folders(photos, tmp_path):
    make_images(tmp_path / "a, b", 1)
    text = f'file,label\r\n"../a, b/0.png","Schuh, groß"\r\n\r\n ,\r\n {photos / "1.png"} , boot \r\n'
    source, _ = find_sources(write(photos, text))
    assert source.class_names == ("Schuh, groß", "boot") and len(source) == 2
    assert source.read(0).size == source.read(1).size


def test_classes_that_are_numbers_come_in_their_order(photos):
    source, _ = find_sources(write(photos, "file,label\n0.png,10\n1.png,9\n2.png,2\n"))
    assert source.class_names == ("2", "9", "10") and tuple(source.labels) == (2, 1, 0)
    assert sort_classes(["10", "9", "a"]) == ("10", "9", "a")


@pytest.mark.parametrize("val", ["val", "Validation", "TEST"])
def test_a_column_of_splits(photos, val):
    rows = f"0.png,hat,train\n1.png,hat,{val}\n2.png,boot,Train\n3.png,boot,{val}\n"
    train, held_out = find_sources(write(photos, "file,label,split\n" + rows))
    assert [Path(train.name(i)).name for i in range(len(train))] == ["0.png", "2.png"]
    assert held_out is not None
    assert [Path(held_out.name(i)).name for i in range(len(held_out))] == ["1.png", "3.png"]
    assert tuple(held_out.labels) == (1, 0)


def test_what_is_for_tests_is_left_alone_beside_validation(photos):
    rows = "0.png,hat,train\n1.png,hat,val\nmissing.png,unknown,test\n"
    train, val = find_sources(write(photos, "file,label,split\n" + rows))
    assert len(train) == 1 and val is not None and len(val) == 1


def test_a_table_for_each_split(photos):
    write(photos, "file,label\n0.png,hat\n1.png,boot\n", "train.csv")
    train, val = find_sources(str(photos))
    assert len(train) == 2 and val is None
    write(photos, "file,label\n2.png,hat\n", "val.csv")
    train, val = find_sources(str(photos))
    assert len(train) == 2 and val is not None and tuple(val.labels) == (1,)


def test_a_folder_of_classes_may_hold_other_tables(tmp_path):
    write(make_images(tmp_path / "data" / "boot", 2).parent, "a,b\n", "notes.csv")
    assert find_sources(str(tmp_path / "data"))[0].class_names == ("boot",)


BAD = {
    "": "no column 'file'",
    "\n": "no column 'file'",
    "label\nhat\n": "no column 'file' (or path",
    "file;label\n0.png;hat\n": "'file;label'",
    "file,category\n0.png,hat\n": "no column 'label' (or class)",
    "file,label,Label\n0.png,hat,hat\n": "2 columns 'label'",
    "file,label,split,split\n0.png,hat,train,val\n": "2 columns 'split'",
    "file,label\n": "no rows",
    "file,label\n\n,\n": "no rows",
    "file,label\n0.png,hat\n1.png\n": "line 3",
    "file,label\n0.png,hat,old\n": "line 2",
    "file,label\n0.png,\n": "line 2 of {table} has no label",
    "file,label\n\n,hat\n": "line 3 of {table} has no file",
    "file,label\n0.png,hat\n8.png,hat\n9.png,hat\n": "2 of the 3 files named in {table} are missing (first: {folder}/",
    "file,label,split\n0.png,hat,dev\n": "split 'dev'",
    "file,label,split\n0.png,hat,\n": "split ''",
    "file,label,split\n0.png,hat,val\n": "no row whose split is train",
    "file,label,split\n0.png,hat,train\n1.png,boot,val\n": "class 'boot'",
    'file,label\n0.png,"hat\n': "not CSV",
}


@pytest.mark.parametrize(("text", "word"), BAD.items(), ids=BAD)
def test_bad_tables(photos, text, word):
    table = write(photos, text)
    with refused("labels.csv", word.format(table=table, folder=photos)):
        find_sources(table)


def test_what_is_no_table(photos):
    with refused(photos / "missing.csv"):
        find_sources(str(photos / "missing.csv"))
    (photos / "labels.csv").write_bytes("file,label\n0.png,Schuh groß\n".encode("utf-16"))
    with refused("labels.csv", "UTF-8"):
        find_sources(str(photos / "labels.csv"))


def test_names_of_files_that_are_not_utf8(photos):
    """The table holds the bytes of the file's name, but classes are text."""
    os.rename(photos / "0.png", os.fsencode(photos) + b"/caf\xe9.png")
    table = photos / "labels.csv"
    table.write_bytes(b"file,label\ncaf\xe9.png,hat\n1.png,boot\n")
    source, _ = find_sources(str(table))
    assert len(source) == 2 and source.read(0).size == (14, 11) and len(source.stamp()) == 16
    table.write_bytes(b"file,label\n1.png,caf\xe9\n")
    with refused("line 2", table, "not UTF-8", r"caf\\xe9"):
        find_sources(str(table))
    table.write_bytes(b"file,l\xe9bel\n1.png,hat\n")
    with refused(table, "not CSV in UTF-8"):
        find_sources(str(table))


def test_a_class_of_validation_that_training_does_not_know(photos):
    write(photos, "file,label\n0.png,hat\n", "train.csv")
    write(photos, "file,label\n1.png,boot\n", "val.csv")
    with refused("val.csv", "'boot'", "expected one of hat"):
        find_sources(str(photos))


def test_all_images_corrupt(photos):
    for i in range(4):
        (photos / f"{i}.png").write_bytes(b"no image")
    table = write(photos, "file,label\n0.png,hat\n1.png,hat\n")
    with refused("none of the 2", table, "0.png"):
        open_splits(table, (8, 8), seed=0)[0][0, 0]
