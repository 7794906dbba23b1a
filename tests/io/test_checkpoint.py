"""Checkpoints are complete or absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny import SCHEDULES, refused

import nextscale.io.checkpoint
from nextscale.io.checkpoint import CheckpointWriter, load_state, load_weights
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.files import atomic_file
from nextscale.io.tensor_files import read_tensors, write_tensors

CONFIG = SCHEDULES["square"]


def save(run: Path, step: int) -> Path:
    writer = CheckpointWriter(run)
    writer.save(step, CONFIG, {"weight": torch.full((3,), step)}, {"model/weight": torch.full((4,), -1.0 * step)})
    writer.wait()
    return run / "checkpoints" / f"step-{step:08d}"


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint, by its tensors."""
    folder = newest_checkpoint(run)
    if folder is None:
        return 0
    state = torch.zeros(4)
    load_state(folder, {"model/weight": state})
    assert (state == -load_weights(folder)["weight"][0]).all()
    return int(-state[0])


def test_load_returns_what_was_saved(tmp_path):
    save(tmp_path, 3)
    assert newest_step(tmp_path) == 3


def test_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def test_the_newest_two_are_kept(tmp_path):
    for step in (8, 9, 10, 100):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-00000010", "step-00000100"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000100"


def test_what_is_saved_does_not_change_while_it_is_written(tmp_path):
    weight, state, writer = torch.zeros(1000), torch.zeros(1000), CheckpointWriter(tmp_path)
    for step in range(1, 20):
        weight += 1
        state += 1
        writer.save(step, CONFIG, {"weight": weight}, {"state": state})
    weight += 1
    state += 1
    writer.wait()
    folder, found = tmp_path / "checkpoints" / "step-00000019", torch.zeros(1000)
    load_state(folder, {"state": found})
    assert found.eq(19).all() and load_weights(folder)["weight"].eq(19).all()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("broken", "call"), [("write_json", 1), ("write_json", 2), ("write_tensors", 1), ("write_tensors", 2), ("flush", 1)]
)
def test_a_crash_while_saving_leaves_the_previous_one(tmp_path, monkeypatch, error, broken, call):
    save(tmp_path, 1)
    works, calls = getattr(nextscale.io.checkpoint, broken), []

    def breaks(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        works(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(nextscale.io.checkpoint, broken, breaks)
        if isinstance(error, OSError):
            with refused("cannot write a checkpoint", tmp_path, "No space left"):
                save(tmp_path, 2)
        else:
            with pytest.raises(KeyboardInterrupt):
                save(tmp_path, 2)
    assert newest_step(tmp_path) == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints").chmod(0o500)
    with refused(tmp_path, "Permission denied"):
        save(tmp_path, 2)


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
    whole = save(tmp_path, 1)
    whole.rename(whole.with_name(".step-00000009.tmp"))
    (tmp_path / "checkpoints" / "step-00000008").mkdir()
    assert newest_checkpoint(tmp_path) is None


FILES = ["config.json", "files.json", "model.safetensors", "state/state.safetensors"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 5, -3])
def test_a_checkpoint_cut_short_is_passed_over(tmp_path, name, length):
    save(tmp_path, 1)
    file = save(tmp_path, 2) / name
    file.write_bytes(file.read_bytes()[:length])
    assert newest_step(tmp_path) == 1


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_lacks_a_file_is_passed_over(tmp_path, name):
    save(tmp_path, 1)
    (save(tmp_path, 2) / name).unlink()
    (tmp_path / "checkpoints" / "step-final").mkdir()
    assert newest_step(tmp_path) == 1


def test_a_state_of_other_tensors(tmp_path):
    folder = save(tmp_path, 1)
    with refused("cannot resume from", folder):
        load_state(folder, {"model/bias": torch.zeros(4)})
    with refused("cannot resume from", folder):
        load_state(folder, {"model/weight": torch.zeros(5)})


def test_a_state_that_is_damaged(tmp_path):
    folder = save(tmp_path, 1)
    shutil.rmtree(folder / "state")
    with refused("cannot resume from", folder):
        load_state(folder, {"model/weight": torch.zeros(4)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()},
            "int8, expected floating-point",
        ),
        (lambda state: {name: tensor.to(torch.complex64) for name, tensor in state.items()}, "complex64, expected"),
        (lambda state: {"model/weight": torch.zeros(1000)}, "Size mismatch"),
        (lambda state: {"other": torch.zeros(4)}, "Missing key"),
    ],
)
def test_a_state_of_other_numbers(tmp_path, change, said):
    """No number is converted silently, and nothing changes."""
    folder = save(tmp_path, 3)
    path = folder / "state" / "state.safetensors"
    write_tensors(path, change(read_tensors(path)))
    state = {"model/weight": torch.ones(4)}
    with refused(folder, "cannot resume", said):
        load_state(folder, state)
    assert torch.equal(state["model/weight"], torch.ones(4))
