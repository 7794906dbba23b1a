"""Training in a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import tiny_runs
import torch


def kill_at(step: int, command: list[str], run: Path, script: str = tiny_runs.__file__) -> None:
    """Start the command in a process of its own, and kill it once it has logged a step."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen([sys.executable, script, *command], env=environment, stderr=subprocess.DEVNULL) as process:
        log = run / "log.jsonl"
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b'"loss"') >= step):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
