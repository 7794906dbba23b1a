"""Official files, valid and invalid."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from tiny import refused

from nextscale.io.pth import as_state, read_pth

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(3)}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "model.pth"
    torch.save(STATE, path)
    return path


class RunsCode:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved(tmp_path, zipped):
    torch.save(STATE, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    path = tmp_path / "model.pth"
    state = as_state(read_pth(path), path)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_a_missing_file(tmp_path):
    with refused(tmp_path / "none.pth", "No such file"):
        read_pth(tmp_path / "none.pth")


def test_a_folder(tmp_path):
    with refused(tmp_path, "directory"):
        read_pth(tmp_path)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with refused(file, "truncated"):
        read_pth(file)


def test_noise(file):
    file.write_bytes(bytes(range(256)) * 40)
    with refused(file, "not a PyTorch checkpoint"):
        read_pth(file)


@pytest.mark.parametrize("head", ["<!DOCTYPE html>", "\n  <html lang='en'>", "<?xml version='1.0'?><html>"])
def test_a_web_page(file, head):
    file.write_text(f"{head}<body>Sign in</body>")
    with refused(file, "HTML page", "not a checkpoint"):
        read_pth(file)


def test_a_git_lfs_pointer(file):
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 435751473\n")
    with refused(file, "Git LFS pointer"):
        read_pth(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_never_run(tmp_path, zipped):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"weight": torch.zeros(1), "evil": RunsCode(marker)}, path, _use_new_zipfile_serialization=zipped)
    with refused(path, "refused"):
        read_pth(path)
    assert not marker.exists()


def test_code_in_a_bare_pickle_is_never_run(tmp_path):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"evil": RunsCode(marker)}))
    with refused(path):
        read_pth(path)
    assert not marker.exists()


def test_the_marker_would_be_made(tmp_path):
    """That the two tests above can fail."""
    pickle.loads(pickle.dumps(RunsCode(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(("content", "kind"), [([1, 2], "list"), (torch.zeros(2), "Tensor"), ({}, "dict")])
def test_what_is_no_dictionary_of_tensors(file, content, kind):
    torch.save(content, file)
    with refused(file, kind):
        read_pth(file)


def test_a_state_of_more_than_tensors(file):
    torch.save(STATE | {"epoch": 3}, file)
    assert read_pth(file)["epoch"] == 3
    with refused(file, "'epoch'", "int"):
        as_state(read_pth(file), file)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_come_off(file, prefix):
    state = as_state({prefix + name: tensor for name, tensor in STATE.items()}, file)
    assert state.keys() == STATE.keys()


def test_half_precision_becomes_float32(file):
    assert as_state({"weight": torch.ones(2).half()}, file)["weight"].dtype == torch.float32
