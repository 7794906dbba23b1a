"""After SIGTERM or Ctrl-C, a run finishes its step and saves. It exits with success, or with 130 after Ctrl-C."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import TOKENIZER, TRANSFORMER, train_command

import nextscale as ns
from nextscale.cli.main import main
from nextscale.data.content import Tokens
from nextscale.data.dataset import Example
from nextscale.data.loader import TrainingBatches
from nextscale.io.checkpoint import CheckpointWriter
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
from nextscale.io.lock import locked
from nextscale.runtime.stop import stop_on_signals
from nextscale.training.run import Run

LAST = f"checkpoints/step-{TRANSFORMER.steps:08d}/model.safetensors"


class Numbers:
    """Examples without images."""

    source: Any = SimpleNamespace(root="numbers", class_names=("number",))
    seed = 0

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: tuple[int, int]) -> Example:
        return Example(Tokens(torch.tensor(key)), 0, ())


def test_a_run_asked_to_stop_saves_and_goes_on_as_if_nothing_was(
    images, tokenizer_run, var_run, tmp_path, monkeypatch, capfd
):
    run = tmp_path / "run"
    command = train_command("var", images, run, "--tokenizer", tokenizer_run)
    log = Run.log

    def log_and_ask(self: Run, step: int, values: dict) -> None:
        log(self, step, values)
        if step == 8 and "loss" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_ask)
        main(command)
    said = capfd.readouterr().err
    assert "stopped: saved at step 8" in said and "step 9/" not in said
    assert (run / "checkpoints" / "step-00000008").is_dir()

    main(command)
    assert "resuming" in capfd.readouterr().err
    ours, theirs = load_file(run / LAST), load_file(var_run / LAST)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("what", [pytest.param("tokenizer", marks=pytest.mark.long), "var"])
def test_ctrl_c_saves_and_a_resumed_run_ends_as_if_nothing_was(
    what, images, tokenizer_run, var_run, tmp_path, monkeypatch, capfd
):
    """At step 8 the run also validates and makes a preview, which the log needs."""
    run, whole = tmp_path / "run", {"tokenizer": tokenizer_run, "var": var_run}[what]
    command = train_command(what, images, run, *(("--tokenizer", tokenizer_run) if what == "var" else ()))
    log, asked = Run.log, []

    def log_and_press(self: Run, step: int, values: dict) -> None:
        log(self, step, values)
        if step == 8 and "loss" in values and not asked:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "log", log_and_press)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 130
    said = capfd.readouterr().err
    assert "Ctrl-C: saving a checkpoint after this step; press Ctrl-C again to stop at once" in said
    saved = run / "checkpoints" / "step-00000008"
    assert said.endswith(f"stopped: saved at step 8 of 24 in {saved}. Repeat the same command to resume.\n")
    assert newest_checkpoint(run) == saved and (run / "previews" / "step-00000008.png").is_file()

    main(command)
    assert f"resuming {run} at step 8" in capfd.readouterr().err
    ours, theirs = load_file(run / LAST), load_file(whole / LAST)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert steps_in(run) == steps_in(whole)


def steps_in(run: Path) -> list[tuple[int, bool]]:
    """The steps in the log, and whether they are of validation."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], "val_loss" in line) for line in lines]


def test_python_code_gets_a_keyboard_interrupt(images, tmp_path, monkeypatch):
    """Otherwise it would go on with a model that is not finished."""
    log = Run.log

    def log_and_press(self: Run, step: int, values: dict) -> None:
        log(self, step, values)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "log", log_and_press)
    with pytest.raises(KeyboardInterrupt):
        ns.train_tokenizer(images, tmp_path / "run", TOKENIZER, steps=4, log_every=1)
    monkeypatch.undo()
    newest = newest_checkpoint(tmp_path / "run")
    assert newest and checkpoint_step(newest) == 2
    ns.train_tokenizer(images, tmp_path / "run", TOKENIZER, steps=4)  # the lock is free


def test_ctrl_c_while_a_run_is_loaded_saves_its_first_step(images, tmp_path, monkeypatch, capfd):
    start_at, run = Run.start_at, tmp_path / "run"

    def press_and_start(self: Run, step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        start_at(self, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "start_at", press_and_start)
        ns.train_tokenizer(images, run, TOKENIZER, steps=4)
    said = capfd.readouterr().err
    assert "Ctrl-C: saving a checkpoint after this step" in said and f"stopped: saved at step 1 of 4 in {run}" in said
    ns.train_tokenizer(images, run, TOKENIZER, steps=4)
    said = capfd.readouterr().err
    assert "at step 1\n" in said and said.endswith(f"finished: 4 steps, saved in {newest_checkpoint(run)}\n")


def test_a_signal_at_the_last_step_changes_nothing(images, tmp_path, monkeypatch, capfd):
    log = Run.log

    def log_and_press(self: Run, step: int, values: dict) -> None:
        log(self, step, values)
        if step == 2 and "loss" in values:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "log", log_and_press)
    main(train_command("tokenizer", images, tmp_path / "run", "--steps", 2))
    assert "stopped" not in capfd.readouterr().err and newest_checkpoint(tmp_path / "run")


@pytest.mark.slow
def test_a_real_ctrl_c_in_a_terminal(images, tmp_path):
    """Every process of the command gets the signal, those that load data as well."""
    recipe = tmp_path / "tiny.json"
    recipe.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(TOKENIZER, steps=100_000))))
    more = ("--preset", recipe, "--workers", 1, "--save-every", 50_000, "--validate-every", 0, "--preview-every", 0)
    command = [sys.executable, "-m", "nextscale", *train_command("tokenizer", images, tmp_path / "run", *more)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr and any("step 3/100000" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130 and "Traceback" not in rest
    newest = newest_checkpoint(tmp_path / "run")
    assert newest and checkpoint_step(newest) >= 3
    assert rest.endswith(f"in {newest}. Repeat the same command to resume.\n")


def test_a_second_command_is_refused_while_a_run_trains(images, tokenizer_run, tmp_path, capsys):
    run = tmp_path / "run"
    for command in (
        train_command("tokenizer", images, run),
        train_command("var", images, run, "--tokenizer", tokenizer_run),
        ["evaluate", "classifier", "--data", str(images), "--out", str(run), "--size", "16", "--batch-size", "2"],
        ["tokenize", "--data", str(images), "--tokenizer", str(tokenizer_run), "--out", str(run)],
    ):
        with locked(run), pytest.raises(SystemExit) as refused:
            main(command)
        assert refused.value.code == 2
        assert f"another command is writing to {run} (process {os.getpid()} on " in capsys.readouterr().err
        assert list(run.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_that_load_leave_signals_to_the_run(number):
    """Batch systems and terminals send them to every process of a job."""
    batches = TrainingBatches(Numbers(), 2, 0, workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid
    os.kill(worker.pid, number)
    for _ in range(5):
        assert len(next(batches)[0].content.values) == 2
    assert worker.is_alive()


def test_a_second_request_does_not_cut_the_last_checkpoint_short(images, tokenizer_run, tmp_path, monkeypatch, capfd):
    run, wait = tmp_path / "run", CheckpointWriter.wait

    def ask_and_wait(self: CheckpointWriter) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        wait(self)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "wait", ask_and_wait)
        main(train_command("var", images, run, "--tokenizer", tokenizer_run))
    step = newest_checkpoint(run)
    assert step and f"saved at step {checkpoint_step(step)}" in capfd.readouterr().err
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("number", "goes_on"), [(errno.EIO, True), (errno.EPIPE, False), (errno.ENOSPC, False)])
def test_a_closed_terminal_does_not_end_a_run_before_it_has_saved(tmp_path, monkeypatch, number, goes_on):
    """SIGHUP asks the run to stop, but its next line has nowhere to go."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with closing(Run(tmp_path / "run", TOKENIZER, {})) as run:
        monkeypatch.setattr("builtins.print", fail)
        if goes_on:
            run.say("step 1")
        else:
            with pytest.raises(OSError, match=os.strerror(number)):
                run.say("step 1")


def test_only_a_run_listens():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_in_a_thread_does_not_listen():
    asked = []

    def look() -> None:
        with stop_on_signals() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert asked == [False]
