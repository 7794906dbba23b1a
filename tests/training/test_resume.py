"""An interrupted and resumed run ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
from processes import kill_at
from safetensors.torch import load_file
from tiny_runs import TOKENIZER, train_command

from nextscale.cli.main import main
from nextscale.io.checkpoint_folder import newest_checkpoint

LAST = f"checkpoints/step-{TOKENIZER.steps:08d}"


def logged_steps(run: Path) -> list[int]:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [line["step"] for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.parametrize(("what", "seed"), [("tokenizer", 0), ("var", 1)])
def test_resumed_equals_uninterrupted(what, seed, images, tokenizer_run, var_run, tmp_path, capfd):
    uninterrupted = {"tokenizer": tokenizer_run, "var": var_run}[what]
    more = [] if what == "tokenizer" else ["--tokenizer", tokenizer_run]
    command = train_command(what, images, tmp_path / "run", *more)
    kill_at(random.Random(seed).randint(6, 14), command, tmp_path / "run")
    assert not (tmp_path / "run" / LAST).exists()
    main(command)
    assert "resuming" in capfd.readouterr().err

    for name in ("model.safetensors", "state/state.safetensors"):
        ours, theirs = (load_file(run / LAST / name) for run in (tmp_path / "run", uninterrupted))
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert torch.equal(ours[key], theirs[key]), f"{key} in {name} differs"
    assert logged_steps(tmp_path / "run") == list(range(1, TOKENIZER.steps + 1))


@pytest.mark.long
def test_a_log_line_cut_short_is_written_again(images, tmp_path):
    run = tmp_path / "run"
    command = train_command("tokenizer", images, run)
    kill_at(7, command, run)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')
    main(command)
    assert logged_steps(run) == list(range(1, TOKENIZER.steps + 1))


def test_checkpoints_cut_short_are_named_and_a_run_without_a_whole_one_starts_anew(
    images, tokenizer_run, tmp_path, capsys
):
    run = tmp_path / "run"
    command = train_command("var", images, run, "--tokenizer", tokenizer_run, "--steps", 10)
    main(command)
    folders = sorted((run / "checkpoints").glob("step-*"))
    os.truncate(folders[-1] / "model.safetensors", 100)
    main(command)
    said = capsys.readouterr().err
    assert (
        f"skipping the incomplete checkpoint {folders[-1]}" in said
        and "resuming" in said
        and str(folders[0]) not in said.partition("resuming")[0]
    )

    for folder in folders:
        os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(SystemExit):
        main([*command, "--steps", "12"])
    assert "holds a run with steps 10, not 12" in capsys.readouterr().err
    main(command)
    said = capsys.readouterr().err
    assert all(f"skipping the incomplete checkpoint {folder}" in said for folder in folders) and "resuming" not in said
    assert newest_checkpoint(run) == folders[-1]


def test_a_killed_run_of_bits_ends_with_the_same_weights(images, tmp_path, capfd):
    alone, run = tmp_path / "alone", tmp_path / "run"
    main([*train_command("tokenizer", images, alone), "--preset", "tiny-bits"])
    command = [*train_command("tokenizer", images, run), "--preset", "tiny-bits"]
    kill_at(random.Random(2).randint(6, 14), command, run)
    main(command)
    assert "resuming" in capfd.readouterr().err
    for name in ("model.safetensors", "state/state.safetensors"):
        ours, theirs = load_file(run / LAST / name), load_file(alone / LAST / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
