"""Which files below a folder are images, and what is said about the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nextscale.imaging.image_files import LISTED, Skipped, images_below, is_hidden, is_hidden_path, readable_name


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """The images below a folder, relative to it, and the notes on what is skipped."""
    skipped = Skipped(folder)
    images = images_below(folder, skipped, folder.resolve().parents)
    return [path.relative_to(folder).as_posix() for path in images], skipped.notes()


@pytest.mark.parametrize("name", [".a.png", "._0.png", ".git", "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"])
def test_names_that_no_person_gave(name):
    assert is_hidden(name) and is_hidden(name.upper())
    assert is_hidden_path(f"cat/{name}/0.png") and is_hidden_path(name)


@pytest.mark.parametrize("path", ["cat/0.png", "./cat/0.png", "../cat", "a.b/c..d", "_hat", "eaDir"])
def test_names_that_a_person_gave(path):
    assert not is_hidden_path(path)


def test_endings_in_any_case(tmp_path):
    names = ["0.jpg", "1.JPEG", "2.jpe", "3.jfif", "4.PNG", "5.webp", "6.bmp", "7.gif", "8.tif", "9.TIFF"]
    touch(*(tmp_path / name for name in names))
    assert found(tmp_path) == (names, ())


def test_other_files_are_counted_by_their_ending_and_named(tmp_path):
    touch(tmp_path / "a" / "0.png", tmp_path / "a" / "1.heic", tmp_path / "2.HEIC", tmp_path / "README")
    images, (note,) = found(tmp_path)
    assert images == ["a/0.png"]
    assert note.startswith(f"{tmp_path}: skipped files that do not end like images (3: .heic 2, none 1): ")
    assert {*note.split("): ")[1].split(", ")} == {"a/1.heic", "2.HEIC", "README"}


def test_hidden_files_and_folders_at_any_depth(tmp_path):
    touch(tmp_path / "a" / "b" / "0.png", tmp_path / "a" / "b" / "._0.png", tmp_path / "a" / "@eaDir" / "0.png")
    touch(tmp_path / "__MACOSX" / "0.png", tmp_path / "a" / ".git" / "deep" / "0.png", tmp_path / "Thumbs.db")
    images, (note,) = found(tmp_path)
    assert images == ["a/b/0.png"]
    assert "hidden and system files (5): " in note and "a/b/._0.png" in note and "deep" not in note


def test_the_first_names_are_listed(tmp_path):
    touch(tmp_path / "0.png", *(tmp_path / f"{i}.txt" for i in range(LISTED + 2)))
    (note,) = found(tmp_path)[1]
    assert f"({LISTED + 2}: .txt {LISTED + 2})" in note and note.count(".txt") == LISTED + 1 and note.endswith(", ...")


def test_links_to_folders_and_files_are_followed(tmp_path):
    touch(tmp_path / "data" / "0.png", tmp_path / "other" / "deep" / "1.png", tmp_path / "2.png")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "again").symlink_to(Path("..", "other"))
    (tmp_path / "data" / "9.png").symlink_to(tmp_path / "2.png")
    assert found(tmp_path / "data") == (["0.png", "9.png", "again/deep/1.png", "more/deep/1.png"], ())


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "../b"])
def test_links_that_lead_back_end(tmp_path, target):
    """Also through another folder, and to a folder that contains the data."""
    touch(tmp_path / "data" / "a" / "0.png", tmp_path / "data" / "b" / "1.png")
    (tmp_path / "data" / "a" / "loop").symlink_to(target)
    (tmp_path / "data" / "b" / "back").symlink_to("../a")
    images, (note,) = found(tmp_path / "data")
    expected = ["a/0.png", "b/1.png", "b/back/0.png"] + (["a/loop/1.png"] if target == "../b" else [])
    assert images == sorted(expected)
    assert "links to a folder that contains them (2): " in note


def test_broken_links_and_pipes_do_not_stop_it(tmp_path):
    touch(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to("nowhere.png")
    (tmp_path / "2.png").symlink_to("2.png")
    os.mkfifo(tmp_path / "3.png")
    (tmp_path / "folder").symlink_to("nowhere")
    images, notes = found(tmp_path)
    assert images == ["0.png"]
    assert any("broken links" in note and "(3): " in note and "1.png" in note and "3.png" in note for note in notes)
    assert any("folder" in note for note in notes)


def test_a_folder_that_cannot_be_opened(tmp_path):
    touch(tmp_path / "0.png", tmp_path / "closed" / "1.png")
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("root may open any folder")
        images, (note,) = found(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert images == ["0.png"] and "folders that cannot be opened (1): closed" in note


def test_a_note_is_one_line(tmp_path):
    touch(tmp_path / "a\nb\x1b[31m.txt", tmp_path / "Icon\r")
    assert [note.split("): ")[1] for note in found(tmp_path)[1]] != []
    for note in found(tmp_path)[1]:
        assert note.isprintable()


def test_names_that_are_not_utf8(tmp_path):
    (name,) = [os.fsdecode(b"caf\xe9")]
    touch(tmp_path / name / f"{name}.png", tmp_path / f"{name}.txt")
    images, (note,) = found(tmp_path)
    assert [os.fsencode(image) for image in images] == [b"caf\xe9/caf\xe9.png"]
    assert note.encode("utf-8") and note.endswith(r": caf\xe9.txt")
    assert readable_name(name) == r"caf\xe9" and readable_name("café") == "café"
