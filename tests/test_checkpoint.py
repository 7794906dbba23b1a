"""A checkpoint is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import SCHEDULES, refused

import nextscale.checkpoint
from nextscale.checkpoint import load_checkpoint, save_checkpoint
from nextscale.errors import InputError
from nextscale.files import atomic_file, read_tensors, write_tensors
from nextscale.weights import newest_checkpoint

CONFIG = SCHEDULES["square"]


def save(run: Path, step: int) -> Path:
    return save_checkpoint(run, step, CONFIG, {"weight": torch.full((3,), step)}, {"model/weight": torch.zeros(4)})


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_load_returns_what_was_saved(tmp_path):
    save(tmp_path, 3)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    step, weights, state = loaded
    assert step == 3
    assert torch.equal(weights["weight"], torch.full((3,), 3))
    assert torch.equal(state["model/weight"], torch.zeros(4))


def test_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path):
    for step in (8, 9, 10, 100):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-00000010", "step-00000100"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000100"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("broken", "call"), [("write_json", 1), ("write_tensors", 1), ("write_tensors", 2), ("_flush", 1), ("_flush", 3)]
)
def test_a_crash_while_saving_leaves_the_previous_one(tmp_path, monkeypatch, error, broken, call):
    save(tmp_path, 1)
    works, calls = getattr(nextscale.checkpoint, broken), []

    def breaks(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        works(*arguments)

    with monkeypatch.context() as patch, pytest.raises((type(error), InputError)):
        patch.setattr(nextscale.checkpoint, broken, breaks)
        save(tmp_path, 2)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded[0] == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_file_that_is_not_written_to_the_end_is_not_there(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.safetensors") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert torch.equal(read_tensors(tmp_path / "a.safetensors")["x"], torch.zeros(2))
    with refused("a.safetensors", "No space left"), atomic_file(tmp_path / "a.safetensors") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_temporaries_are_not_checkpoints(tmp_path):
    save(tmp_path, 1)
    whole = tmp_path / "checkpoints" / "step-00000001"
    whole.rename(whole.with_name(".step-00000009.tmp"))
    (tmp_path / "checkpoints" / "step-00000008").mkdir()
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
@pytest.mark.parametrize("length", [0, 5, -1])
def test_a_truncated_file(tmp_path, name, length):
    file = save(tmp_path, 1) / name
    file.write_bytes(file.read_bytes()[:length])
    with refused(name, "whole"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "state.safetensors"])
def test_a_checkpoint_that_lacks_a_file_does_not_count(tmp_path, file):
    save(tmp_path, 1)
    (save(tmp_path, 2) / file).unlink()
    (tmp_path / "checkpoints" / "step-final").mkdir()
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded[0] == 1
