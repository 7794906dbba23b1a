"""Paths of output files: folders, long names, and the files next to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import refused

from nextscale.io.files import (
    atomic_file,
    beside,
    brief_path,
    check_creatable,
    check_folder,
    check_writable_file,
    make_folder,
    write_json,
)

LONGEST = 255
"""Bytes of a file name, on all common file systems."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("letter", ["a", "é", "像"])
def test_names_up_to_255_bytes(tmp_path, letter):
    stem = letter * ((LONGEST - 5) // len(letter.encode()))
    path = tmp_path / f"{stem}.json"
    assert LONGEST - 3 <= len(path.name.encode()) <= LONGEST
    check_writable_file(path)
    assert names(tmp_path) == []
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("check", [check_creatable, check_writable_file, lambda path: write_json(path, 1)])
@pytest.mark.parametrize("place", ["", "new/folder"])
def test_longer_names(tmp_path, check, place):
    path = tmp_path / place / ("a" * 256)
    with refused("cannot write", "aaa", "too long"):
        check(path)


@pytest.mark.parametrize("check", [check_folder, make_folder, lambda path: write_json(path / "a.json", 1)])
@pytest.mark.parametrize("path", ["a" * 256, "a" * 256 + "/b", "new/" + "a" * 256])
def test_longer_names_of_folders(tmp_path, check, path):
    with refused("cannot create folder", "too long"):
        check(tmp_path / path)
    assert set(names(tmp_path)) <= {"new"}


@pytest.mark.parametrize("path", [".", "/", "..", "folder", "folder/", "folder/.."])
def test_a_folder_is_not_a_file(tmp_path, monkeypatch, path):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with refused(f"{Path(path)} is a folder: expected the name of an image"):
        check_writable_file(Path(path), "an image")


def test_a_check_writes_nothing(tmp_path):
    for check in (check_writable_file, check_creatable):
        check(tmp_path / "new" / "folder" / "a")
    check_folder(tmp_path / "new" / "folder")
    assert names(tmp_path) == []


def test_the_temporary_file_is_next_to_the_file_and_hidden(tmp_path):
    with atomic_file(tmp_path / ("a" * LONGEST)) as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and str(os.getpid()) in temporary.name
        temporary.touch()
    with atomic_file(tmp_path / "b") as first, atomic_file(tmp_path / "c") as second:
        assert first != second
        first.touch()
        second.touch()
    assert names(tmp_path) == ["a" * LONGEST, "b", "c"]


def test_files_beside():
    assert beside(Path("a/b.c.png"), "scales") == Path("a/b.c-scales.png")
    assert beside(Path("a/b.png"), "", ".csv") == Path("a/b.csv")
    assert beside(Path("b.npz"), "features", "") == Path("b-features")
    for path in (".", "/"):
        with refused(f"{path} is a folder"):
            beside(Path(path), "scales")


def test_paths_in_messages():
    assert brief_path(Path("/a b/ü.png")) == "/a b/ü.png"
    assert brief_path(Path("a\udce9\nb")) == "a\\udce9\\nb"
    assert brief_path(Path("a" * 1000)) == "a" * 199 + "..."
