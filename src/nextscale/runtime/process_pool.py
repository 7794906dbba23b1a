"""Run several ``nextscale`` commands in parallel, each in a process with one GPU or with some of the CPU's threads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Thread

import torch

from nextscale.errors import InputError
from nextscale.runtime.stop import stop_on_signals

POLL_SECONDS = 0.1
"""Seconds between two checks of the processes."""


@dataclass(frozen=True)
class Job:
    """A ``python -m nextscale`` command. Its lines on standard error are prefixed with the job's name."""

    name: str
    arguments: Sequence[str]


@dataclass
class Process:
    """A running job."""

    job: Job
    slot: int
    """Index of the job's slot, below ``parallel``."""
    popen: subprocess.Popen[str]
    reader: Thread
    lines: deque[str]
    """The last line of standard error."""


def run_all(jobs: Sequence[Job], parallel: int, device: torch.device, held: Sequence[int] = ()) -> bool:
    """Run the jobs in order, ``parallel`` at a time.

    On GPUs each process sees one of them; on the CPU the processes share the threads. If a job fails, or this process
    gets Ctrl-C, SIGTERM or SIGHUP, all running jobs get SIGTERM and no other job starts.

    Args:
        held: file descriptors that the processes inherit, such as those of a lock.

    Returns:
        True if all jobs finished, False if this process got SIGTERM or SIGHUP.

    Raises:
        InputError: a job failed. The error has the job's message.
        KeyboardInterrupt: this process got Ctrl-C. The running jobs have ended.
    """
    waiting, running = deque(jobs), list[Process]()
    with stop_on_signals("waiting until the running jobs have saved") as stop:
        try:
            while running or waiting:
                free = sorted(set(range(parallel)) - {process.slot for process in running})
                for slot, job in zip(free, list(waiting), strict=False):
                    waiting.remove(job)
                    running.append(start(job, slot, environment(slot, parallel, device), held))
                time.sleep(POLL_SECONDS)
                if stop.interrupted:
                    raise KeyboardInterrupt
                if stop.asked:
                    return False
                for process in [process for process in running if process.popen.poll() is not None]:
                    running.remove(process)
                    check(process)
        finally:
            for process in running:
                process.popen.terminate()  # only once: the job saves on the first SIGTERM, a second would kill it
            for process in running:
                process.popen.wait()
                process.reader.join()
    return True


def environment(slot: int, parallel: int, device: torch.device) -> dict[str, str]:
    """Return the environment variables that give a process one GPU, or some of the CPU's threads."""
    if device.type == "cuda":
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        gpus = [name for name in names if name] or [str(i) for i in range(torch.cuda.device_count())]
        return {**os.environ, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // parallel))}


def start(job: Job, slot: int, variables: dict[str, str], held: Sequence[int]) -> Process:
    """Start a job. A thread copies its output lines to standard error."""
    popen = subprocess.Popen(
        [sys.executable, "-m", "nextscale", *job.arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=tuple(held),
    )
    lines: deque[str] = deque(maxlen=1)

    def show() -> None:
        assert popen.stderr
        with popen.stderr as written:
            for line in written:
                lines.append(line.rstrip("\n"))
                print(f"{job.name}  {line}", end="", file=sys.stderr, flush=True)

    reader = Thread(target=show, daemon=True)
    reader.start()
    return Process(job, slot, popen, reader, lines)


def check(process: Process) -> None:
    """Raise InputError with the message of a job if it has failed."""
    process.reader.join()
    code, last = process.popen.returncode, "".join(process.lines)
    if code == 2:
        raise InputError(f"{process.job.name}: {last.removeprefix('nextscale: ')}")
    if code:
        raise InputError(f"{process.job.name} ended with exit code {code}; its last line is {last!r}")
