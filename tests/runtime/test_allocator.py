"""Returning memory to the system loses no data."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nextscale.io.tensor_files import read_tensors
from nextscale.runtime.allocator import (
    LESS_FRAGMENTATION,
    page_out,
    restart_with_less_fragmentation,
    trim,
    unwritten_mappings,
)

SIZE = 4 * 2**20
"""Numbers of a tensor; its bytes are four times as many."""


@pytest.fixture
def mapped(tmp_path: Path) -> torch.Tensor:
    """A tensor of 16 MiB, mapped from a file."""
    save_file({"a": torch.arange(SIZE, dtype=torch.float32)}, tmp_path / "a.safetensors")
    return read_tensors(tmp_path / "a.safetensors")["a"]


def held(what: str = "RssFile") -> int:
    """Bytes of files that this process holds in memory; with ``RssAnon`` of what is of no file."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_what_is_paged_out_comes_back(mapped):
    own = torch.randn(100_000)
    before = own.clone()
    page_out([mapped, own, torch.empty(0)])
    assert torch.equal(mapped, torch.arange(SIZE, dtype=torch.float32)) and torch.equal(own, before)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_memory_of_a_file_goes_back(mapped):
    mapped.sum()
    before = held()
    page_out([mapped])
    assert before - held() > 0.9 * mapped.nbytes


def test_what_was_written_over_a_mapped_file_is_kept(mapped):
    mapped[SIZE // 2] = -1
    page_out([mapped])
    assert mapped[SIZE // 2] == -1 and mapped[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_mappings_count_as_unwritten_until_they_are_written_to(mapped):
    def is_unwritten() -> bool:
        return any(first <= mapped.data_ptr() < last for first, last in unwritten_mappings())

    assert is_unwritten()
    mapped[0] = 1
    assert not is_unwritten()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux only")
def test_a_mapped_file_whose_name_is_not_utf8(tmp_path):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.write_bytes(bytes(mmap.PAGESIZE))
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content[0] == 0 and unwritten_mappings()


needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)


@needs_glibc
def test_what_is_free_goes_back_to_the_system():
    many = [torch.ones(20_000) for _ in range(2000)]  # 160 MB
    above = torch.ones(20_000)  # so that the heap cannot simply end sooner
    del many
    before = held("RssAnon")
    trim()
    assert held("RssAnon") < before - 100_000_000
    assert above.sum() == 20_000


SMALL_TENSORS_LEAVE_ROOM = """
import torch
from nextscale.runtime.allocator import kept, restart_with_less_fragmentation

restart_with_less_fragmentation()
pages = lambda: int(open("/proc/self/statm").read().split()[1])
with kept(torch.device("cpu")):
    small = [torch.ones(2**21 - i) for i in range(8)]
    before = pages()
    del small
    large = torch.ones(7 * 2**21)
print((pages() - before) * 4 // 1024)
"""


def start(script: str, **variables: str) -> str:
    """What a process of its own prints that has these variables, and those of ours."""
    usual = {name: value for name, value in os.environ.items() if name not in LESS_FRAGMENTATION}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=usual | variables).stdout.strip()


SAME_TENSORS_TWICE = """
import torch
from nextscale.runtime.allocator import kept, trim

pages = lambda: int(open("/proc/self/statm").read().split()[1])
counts = []
trim()
counts.append(pages())
with kept(torch.device("cpu")):
    tensors = [torch.ones(2**20) for _ in range(16)]
    counts.append(pages())
    del tensors
    counts.append(pages())
    tensors = [torch.ones(2**20) for _ in range(16)]
    counts.append(pages())
    del tensors
counts.append(pages())
print(*((count - counts[0]) * 4 // 1024 for count in counts[1:]))
"""


@needs_glibc
def test_what_is_kept_is_there_the_next_time():
    """Counts MiB in a process of its own: what other tests left in the heap would hold some of the tensors."""
    first, kept, second, after = map(int, start(SAME_TENSORS_TWICE).split())
    assert first >= 60 and kept >= 60 and second < 100 and after < 8


@needs_glibc
def test_one_large_tensor_takes_the_place_of_many_small_ones():
    assert int(start(SMALL_TENSORS_LEAVE_ROOM)) < 4


@needs_glibc
def test_a_process_starts_again_once_unless_the_user_has_set_the_variable():
    script = """
import os
from nextscale.runtime.allocator import restart_with_less_fragmentation

print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), flush=True)
restart_with_less_fragmentation()
"""
    first, second = (line.split() for line in start(script).splitlines())
    assert first[0] == second[0] and first[1] == "None" and second[1:] == list(LESS_FRAGMENTATION.values())
    assert len(start(script, GLIBC_TUNABLES="").splitlines()) == 1


@needs_glibc
@pytest.mark.parametrize("number", [errno.E2BIG, errno.ENOENT, errno.ENOMEM, errno.EACCES])
def test_a_system_that_cannot_start_it_again_lets_it_go_on(monkeypatch, number):
    """The environment may be too large with the variable, or the interpreter may have been replaced by an update."""
    tried = []

    def execve(*arguments: object) -> None:
        tried.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("os.execve", execve)
    restart_with_less_fragmentation()
    assert len(tried) == 1 and "GLIBC_TUNABLES" not in os.environ


@needs_glibc
def test_an_interpreter_without_a_file_goes_on(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr("sys.executable", "")
    started = []
    monkeypatch.setattr("os.execve", lambda *arguments: started.append(arguments))
    restart_with_less_fragmentation()
    assert not started and "GLIBC_TUNABLES" not in os.environ
