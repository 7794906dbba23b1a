"""Timing two commands in turn."""

from __future__ import annotations

import shlex
import sys

import pytest
import torch
from tiny import refused

from nextscale.benchmark.turns import seconds_of, take_turns

CPU = torch.device("cpu")


def test_turns_alternate_after_a_call_to_warm_up(tmp_path):
    log = tmp_path / "log"

    def run() -> None:
        log.write_text(log.read_text() + "a" if log.exists() else "a")

    code = f"open({str(log)!r}, 'a').write('b'); print('a word'); print(0.25)"
    turns = take_turns(run, 2, CPU, shlex.join([sys.executable, "-c", code]))
    assert log.read_text() == "aabab"
    assert len(turns.ours) == 2 and turns.theirs == [0.25, 0.25]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program --fast", ["cannot run", "no-such-program"]),
        ("", ["cannot run"]),
        ("'", ["cannot run"]),
        ("echo fast", ["number of seconds", "'fast'"]),
        ("echo -1", ["number of seconds", "-1"]),
        ("true", ["number of seconds", "''"]),
        ("false", ["exit code 1"]),
    ],
)
def test_commands_that_do_not_tell_their_time(command, words):
    with refused(*words):
        seconds_of(command)
