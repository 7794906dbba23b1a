"""Training in processes of its own: one that is killed, or two under torchrun."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import tiny_runs
import torch

from nextscale.io.checkpoint_folder import newest_checkpoint


def kill_at(step: int, command: list[str], run: Path, script: str = tiny_runs.__file__) -> None:
    """Start the command in a process of its own, and kill it once it has logged a step and written a checkpoint.

    Checkpoints are written in the background, so that the first one may come late.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen([sys.executable, script, *command], env=environment, stderr=subprocess.DEVNULL) as process:
        log = run / "log.jsonl"
        while process.poll() is None and not (
            log.is_file() and log.read_bytes().count(b'"loss"') >= step and newest_checkpoint(run)
        ):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def under_torchrun(command: list[str], script: str = tiny_runs.__file__) -> subprocess.Popen[str]:
    """The command in two processes, in a process group of their own. Errors are in its output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), script]
    return subprocess.Popen(
        [sys.executable, *launch, *command],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def two_processes(command: list[str], code: int = 0, script: str = tiny_runs.__file__) -> str:
    """The command under torchrun; returns what it said."""
    with under_torchrun(command, script) as started:
        said, _ = started.communicate(timeout=300)
    assert started.returncode == code, said
    return said
