"""SIGTERM: the step at hand is finished, saved, and the run ends with success."""

from __future__ import annotations

import os
import signal
import threading

import torch
from safetensors.torch import load_file
from tiny_runs import TRANSFORMER, train_command

from nextscale.cli.main import main
from nextscale.training.run import Run
from nextscale.training.stop import stop_on_sigterm

LAST = f"checkpoints/step-{TRANSFORMER.steps:08d}/model.safetensors"


def test_a_run_asked_to_stop_saves_and_goes_on_as_if_nothing_was(
    pictures, tokenizer_run, var_run, tmp_path, monkeypatch, capfd
):
    run = tmp_path / "run"
    command = train_command("var", pictures, run, "--tokenizer", tokenizer_run)
    log = Run.log

    def log_and_ask(self: Run, step: int, values: dict) -> None:
        log(self, step, values)
        if step == 7 and "loss" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", log_and_ask)
        main(command)
    said = capfd.readouterr().err
    assert "asked to stop: saved at step 8" in said and "step 9/" not in said
    assert (run / "checkpoints" / "step-00000008").is_dir()

    main(command)
    assert "resuming" in capfd.readouterr().err
    ours, theirs = load_file(run / LAST), load_file(var_run / LAST)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_only_a_run_listens():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_in_a_thread_does_not_listen():
    asked = []

    def look() -> None:
        with stop_on_sigterm() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert asked == [False]
