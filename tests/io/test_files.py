"""Files are written completely or not at all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny import refused

from nextscale.io.files import atomic_file, make_folder, read_json, write_json
from nextscale.io.tensor_files import read_tensors, write_tensors


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_there_and_back(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"a": [1, 2], "ü": None})
    assert read_json(tmp_path / "new" / "a.json") == {"a": [1, 2], "ü": None}
    assert names(tmp_path / "new") == ["a.json"]


def test_tensors_there_and_back(tmp_path):
    tensors = {"a": torch.randn(2, 3).T, "b": torch.tensor(3), "c": torch.zeros(0)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    read = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert names(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_said(tmp_path):
    path = tmp_path / "a.txt"
    with refused(path, "No space left"), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [lambda p: write_json(p, {}), lambda p: write_tensors(p, {"a": torch.zeros(2)})])
def test_a_folder_that_cannot_be_made(tmp_path, write):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file"):
        write(tmp_path / "file" / "below" / "a")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [lambda p: write_json(p, {}), lambda p: write_tensors(p, {"a": torch.zeros(2)})])
def test_a_folder_in_the_way(tmp_path, write):
    (tmp_path / "a").mkdir()
    with refused(tmp_path / "a", "directory"):
        write(tmp_path / "a")
    assert names(tmp_path) == ["a"]


def test_a_file_in_the_folder_s_way(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file"):
        make_folder(tmp_path / "file")


def test_json_that_is_none(tmp_path):
    (tmp_path / "a.json").write_text("{half")
    with refused(tmp_path / "a.json", "not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with refused(tmp_path / "b.json", "not valid JSON"):
        read_json(tmp_path / "b.json")
    with refused(tmp_path / "c.json", "No such file"):
        read_json(tmp_path / "c.json")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated_tensors(tmp_path, share):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with refused(path, "not a complete safetensors file"):
        read_tensors(path)


def test_missing_tensors(tmp_path):
    with refused(f"no file {tmp_path / 'a.safetensors'}"):
        read_tensors(tmp_path / "a.safetensors")


def test_threads_that_write_the_same_file_do_not_disturb_each_other(tmp_path):
    path, together = tmp_path / "x.txt", threading.Barrier(2)

    def write(text: str) -> None:
        with atomic_file(path) as temporary:
            temporary.write_text(text)
            together.wait(10)
            assert temporary.read_text() == text

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("first", "second")))
    assert path.read_text() in ("first", "second") and list(tmp_path.iterdir()) == [path]
