"""Commands of ours as processes of their own, several at once, one on each device."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import torch

from nextscale.errors import InputError
from nextscale.io.files import make_folder
from nextscale.runtime.stop import stop_on_sigterm

LOCK = ".lock"
PATIENCE = 0.1
"""Seconds between looks at the processes."""


@dataclass(frozen=True)
class Job:
    """``python -m nextscale`` with arguments, its lines on standard error headed by a name."""

    name: str
    arguments: Sequence[str]


@dataclass
class Process:
    """A job at work."""

    job: Job
    place: int
    """Which of those at once it is."""
    running: subprocess.Popen[str]
    reader: Thread
    lines: deque[str]
    """The last of standard error."""


def run_all(jobs: Sequence[Job], parallel: int, device: torch.device, held: Sequence[int] = ()) -> bool:
    """Run each job to its end, in this order, ``parallel`` at once.

    On GPUs each process sees one of them, in turn; on the CPU they divide the threads. A failure, an interrupt or
    SIGTERM ends all with SIGTERM, and no further one is started.

    Args:
        held: file descriptors that processes keep open, even when this one is killed.

    Returns:
        Whether all ended: false if this process was asked to stop.

    Raises:
        InputError: what a job failed with.
    """
    waiting, at_work = deque(jobs), list[Process]()
    with stop_on_sigterm() as stop:
        try:
            while at_work or waiting:
                free = sorted(set(range(parallel)) - {process.place for process in at_work})
                for place, job in zip(free, list(waiting), strict=False):
                    waiting.remove(job)
                    at_work.append(start(job, place, environment(place, parallel, device), held))
                time.sleep(PATIENCE)
                if stop.asked:
                    return False
                for process in [process for process in at_work if process.running.poll() is not None]:
                    at_work.remove(process)
                    check(process)
        finally:
            for process in at_work:
                process.running.terminate()  # once: it saves, and a second would end it on the way
            for process in at_work:
                process.running.wait()
                process.reader.join()
    return True


def environment(place: int, parallel: int, device: torch.device) -> dict[str, str]:
    """What a process finds: one GPU, or its share of the threads."""
    if device.type == "cuda":
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        gpus = [name for name in names if name] or [str(i) for i in range(torch.cuda.device_count())]
        return {**os.environ, "CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]}
    return {**os.environ, "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // parallel))}


def start(job: Job, place: int, variables: dict[str, str], held: Sequence[int]) -> Process:
    """Start a job; its lines go to our standard error as they come."""
    running = subprocess.Popen(
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
        assert running.stderr
        with running.stderr as written:
            for line in written:
                lines.append(line.rstrip("\n"))
                print(f"{job.name}  {line}", end="", file=sys.stderr, flush=True)

    reader = Thread(target=show, daemon=True)
    reader.start()
    return Process(job, place, running, reader, lines)


def check(process: Process) -> None:
    """Raises InputError if an ended job has failed, with its own sentence."""
    process.reader.join()
    code, last = process.running.returncode, "".join(process.lines)
    if code == 2:
        raise InputError(f"{process.job.name}: {last.removeprefix('nextscale: ')}")
    if code:
        raise InputError(f"{process.job.name} ended with exit code {code}, its last line being {last!r}")


@contextmanager
def locked(folder: Path) -> Iterator[list[int]]:
    """Within, no other command may lock the folder, nor while a process to which the descriptors were passed lives.

    Where the system has no such locks, nothing is locked.

    Raises:
        InputError: another command holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield []
        return
    with (make_folder(folder) / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another command is at work on {folder}: wait for its end") from error
        yield [file.fileno()]
