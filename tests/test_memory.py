"""Memory that is given back loses nothing."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nextscale.files import read_tensors
from nextscale.memory import kept, page_out, trim, unwritten_mappings

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


@needs_glibc
def test_what_is_kept_is_there_the_next_time():
    def fresh_pages(numbers: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(numbers)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    large = 4 * SIZE  # 64 MiB, more than a heap takes otherwise
    trim()
    before = held("RssAnon")
    with kept(torch.device("cpu")):
        assert fresh_pages(large) > 10_000
        assert held("RssAnon") > before + 3 * large
        assert fresh_pages(large - 1024) < 1000  # a little less, as glibc wants room to align
    assert held("RssAnon") < before + large
