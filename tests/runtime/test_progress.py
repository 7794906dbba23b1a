"""Progress lines: count, rate and remaining time."""

from __future__ import annotations

import sys

import pytest

from nextscale.runtime.progress import Progress, duration, is_terminal, say_over


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_now_and_then_and_at_the_end(capsys):
    clock = Clock()
    progress = Progress("drawn", 1000, every=10, clock=clock)
    for seconds in (4, 8, 12, 16):
        clock.now = seconds
        progress.add(10)
    assert capsys.readouterr().err == "drawn 30 of 1,000, 2.5 a second, 6 min left\n"
    progress.add(960)
    assert capsys.readouterr().err == "drawn 1,000 of 1,000, 62.5 a second\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_are_replaced_on_terminals_only(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    say_over("scale 1/2")
    say_over("scale 2/2", is_last=True)
    out, err = capsys.readouterr()
    assert not out and err == ("\rscale 1/2\rscale 2/2\n" if terminal else "scale 2/2\n")


def test_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_terminal()
