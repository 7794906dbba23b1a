"""Dividing a batch among processes or accumulation steps does not change training."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from processes import two_processes, under_torchrun
from safetensors.torch import load_file
from tiny_runs import train_command

from nextscale.cli.main import main
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.lock import locked

EXACT = ("--dtype", "float32", "--steps", "30", "--validate-every", "15", "--save-every", "15")
LAST = "checkpoints/step-00000030"
FIGURES = ("loss", "scale_loss", "scale_accuracy", "grad_norm", "val_loss")


def figures(run: Path, name: str) -> torch.Tensor:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return torch.tensor([line[name] for line in lines if name in line], dtype=torch.float64)


def check_alike(a: Path, b: Path, *names: str, atol: float = 1e-5) -> None:
    for name in names:
        ours, theirs = figures(a, name), figures(b, name)
        assert len(ours) == len(theirs) > 0
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def tokenizer(images, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "tokenizer"
    main(train_command("tokenizer", images, run, *EXACT))
    return run


@pytest.fixture(scope="module")
def alone(images, tokenizer, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "var"
    main(train_command("var", images, run, "--tokenizer", tokenizer, *EXACT))
    return run


def test_turns_change_nothing(images, tokenizer, alone, tmp_path):
    main(train_command("tokenizer", images, tmp_path / "tokenizer", *EXACT, "--accumulate", 4))
    check_alike(tmp_path / "tokenizer", tokenizer, "loss", "usage")
    main(train_command("var", images, tmp_path / "var", "--tokenizer", tokenizer, *EXACT, "--accumulate", 4))
    check_alike(tmp_path / "var", alone, *FIGURES)


def test_recomputing_changes_nothing(images, tokenizer, alone, tmp_path):
    main(train_command("var", images, tmp_path / "var", "--tokenizer", tokenizer, *EXACT, "--recompute"))
    check_alike(tmp_path / "var", alone, "loss", "val_loss", atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--accumulate", "2"), id="ddp"),
        pytest.param(("--strategy", "fsdp", "--accumulate", "2"), id="fsdp", marks=pytest.mark.long),
    ],
)
def test_two_processes_train_a_transformer_as_one_does_and_one_goes_on(
    more, images, tokenizer, alone, tmp_path, capsys
):
    """Two processes until step 30; then its checkpoint is lost, and one goes on from step 15."""
    run = tmp_path / "var"
    command = train_command("var", images, run, "--tokenizer", tokenizer, *EXACT)
    two_processes([*command, *more])
    check_alike(run, alone, *FIGURES)
    ours, theirs = load_file(run / LAST / "model.safetensors"), load_file(alone / LAST / "model.safetensors")
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-3) for key in theirs)

    shutil.rmtree(run / LAST)
    main(command)
    assert "at step 15" in capsys.readouterr().err
    check_alike(run, alone, *FIGURES)


@pytest.mark.long
def test_two_processes_go_on_where_one_stopped(images, tokenizer, alone, tmp_path):
    run = tmp_path / "var"
    shutil.copytree(alone, run)
    shutil.rmtree(run / LAST)
    said = two_processes(
        train_command("var", images, run, "--tokenizer", tokenizer, *EXACT, "--strategy", "fsdp", "--recompute")
    )
    assert said.count("at step 15") == 1
    check_alike(run, alone, *FIGURES)


@pytest.mark.long
def test_two_processes_train_a_tokenizer_as_one_does_and_resume_bit_for_bit(images, tokenizer, tmp_path):
    """Codes restart at step 16, by what was used before the checkpoint of step 15, too."""
    run = tmp_path / "run"
    command = train_command("tokenizer", images, run, *EXACT)
    two_processes(command)
    check_alike(run, tokenizer, "loss", "usage", "val_usage")
    check_alike(run, tokenizer, "val_psnr", atol=1e-4)  # near 12, it rounds by 5e-5 on some CPUs
    names = ["model.safetensors", *(f"state/{path.name}" for path in (run / LAST / "state").glob("*.safetensors"))]
    expected = {name: load_file(run / LAST / name) for name in names}

    shutil.rmtree(run / LAST)
    assert two_processes(command).count("at step 15") == 1
    for name, tensors in expected.items():
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in load_file(run / LAST / name).items())


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_saves_in_two_processes(images, tmp_path):
    """The terminal sends SIGINT to all processes, and torchrun sends another one to each: not a second press."""
    run = tmp_path / "run"
    with under_torchrun(train_command("tokenizer", images, run, "--steps", 100_000, "--save-every", 0)) as started:
        assert started.stdout and any("step 3/100000" in line for line in started.stdout)
        os.killpg(started.pid, signal.SIGINT)
        rest = started.stdout.read()
    saved = newest_checkpoint(run)
    assert saved and rest.count("stopped: saved at step") == 1 and f"in {saved}. Repeat" in rest
    assert rest.count("Ctrl-C: saving a checkpoint after this step") == 1


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_are_refused_where_another_command_writes(images, tmp_path):
    run = tmp_path / "run"
    with locked(run):
        said = two_processes(train_command("tokenizer", images, run), code=1)
    assert f"nextscale: another command is writing to {run} (process {os.getpid()} on " in said
    assert list(run.iterdir()) == []


@pytest.mark.long
def test_two_processes_train_bits_as_one_does(images, tmp_path):
    """With entropies of the images of a group, and a critic with batch statistics of all processes."""
    critic = [f"adversarial.{setting}" for setting in ("norm=batch", "layers=1", "channels=8", "start=0.4")]
    more = (*EXACT, "--preset", "tiny-bits", "--set", *critic, "adversarial.adaptive=false")
    main(train_command("tokenizer", images, tmp_path / "alone", *more))
    two_processes(train_command("tokenizer", images, tmp_path / "run", *more))
    check_alike(tmp_path / "run", tmp_path / "alone", "loss", "critic_loss", atol=1e-4)
    check_alike(tmp_path / "run", tmp_path / "alone", "ones", "bit_entropy", "val_ones", atol=1e-3)
    check_alike(tmp_path / "run", tmp_path / "alone", "val_psnr", atol=1e-3)
