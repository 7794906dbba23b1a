"""Progress bars of downloads."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import are_progress_bars_disabled

from nextscale.io import hub
from nextscale.io.hub import progress_on_terminals


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bars_are_for_terminals(monkeypatch, terminal):
    monkeypatch.setattr(hub, "is_terminal", lambda: terminal)
    before = are_progress_bars_disabled()
    with progress_on_terminals():
        assert are_progress_bars_disabled() == (not terminal)
    assert are_progress_bars_disabled() == before is False


def test_they_come_back_after_an_error(monkeypatch):
    monkeypatch.setattr(hub, "is_terminal", lambda: False)
    with pytest.raises(OSError), progress_on_terminals():
        raise OSError
    assert not are_progress_bars_disabled()


def test_the_environment_decides(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")
    monkeypatch.setattr(hub, "is_terminal", lambda: False)
    with progress_on_terminals():
        assert not are_progress_bars_disabled()
