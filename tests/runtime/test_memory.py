"""The memory that is left, read from files of the system."""

from __future__ import annotations

import sys

import pytest
import torch

from nextscale.runtime import memory
from nextscale.runtime.memory import available_memory

CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads files of Linux")


@linux
def test_this_machine():
    available = available_memory(CPU)
    assert available is not None and 2**20 < available < 2**50


@linux
def test_the_smaller_of_machine_and_container(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    5 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_memory(CPU) == 5 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert available_memory(CPU) == 5 * 1024
    (tmp_path / "memory.max").write_text("4000\n")
    assert available_memory(CPU) == 4000 - 3000 + 500
    (tmp_path / "meminfo").write_text("nothing\n")
    (tmp_path / "memory.max").unlink()
    assert available_memory(CPU) is None


def test_other_devices():
    assert available_memory(torch.device("meta")) is None
