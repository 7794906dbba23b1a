"""Time two programs in turn: ours, theirs, ours, theirs, so that a busy machine slows down both."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nextscale.benchmark.machine import wait
from nextscale.errors import InputError


@dataclass
class Turns:
    """Seconds of each repetition."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


def take_turns(run: Callable[[], object], repeats: int, device: torch.device, against: str = "") -> Turns:
    """Time ``run`` after one call to warm up, and after each repetition the command ``against``, if it is given."""
    if repeats < 1:
        raise InputError(f"repeats must be at least 1, not {repeats}")
    turns = Turns()
    run()
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        turns.ours.append(time.perf_counter() - start)
        if against:
            turns.theirs.append(seconds_of(against))
    return turns


def seconds_of(command: str) -> float:
    """Run a command without a shell, and return the seconds that it prints on its last line.

    Raises:
        InputError: the command cannot be run, fails, or prints no number of seconds.
    """
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"cannot run {command!r}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{command!r} failed with exit code {done.returncode}: {last}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        seconds = float(last)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InputError(f"expected a number of seconds on the last line that {command!r} prints, got {last!r}")
    return seconds
