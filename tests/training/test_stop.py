"""After SIGTERM, a run finishes its step, saves, and exits with success."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from tiny_runs import TRANSFORMER, train_command

from nextscale.cli.main import main
from nextscale.data.content import Tokens
from nextscale.data.dataset import Example
from nextscale.data.loader import TrainingBatches
from nextscale.io.checkpoint import CheckpointWriter
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
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
        if step == 7 and "loss" in values:
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


def test_processes_that_load_leave_sigterm_to_the_run():
    """Batch systems send it to every process of a job."""
    batches = TrainingBatches(Numbers(), 2, 0, workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid
    os.kill(worker.pid, signal.SIGTERM)
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
