"""Fast precisions of a CPU, and results that do not depend on the number of cores."""

from __future__ import annotations

import threading

import pytest
import torch

import nextscale as ns
from nextscale.runtime.device import has_fast_bfloat16, is_intel, one_core_each, use_cores
from nextscale.sampling.run import decode_each


@pytest.fixture(autouse=True)
def cores():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("cores", [1, 3])
def test_each_item_has_one_core(cores):
    torch.set_num_threads(cores)
    together = threading.Barrier(cores)

    def look(item: int) -> tuple[int, int]:
        together.wait(10)
        return item, torch.get_num_threads()

    assert one_core_each(look, range(6)) == [(i, 1) for i in range(6)]
    assert torch.get_num_threads() == cores


def test_an_error_comes_through():
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        one_core_each(lambda item: 1 / item, (2, 0, 1))
    assert torch.get_num_threads() == 2


def test_threads_have_cores_of_their_own():
    seen = {}
    together = threading.Barrier(3)

    def use(count: int) -> None:
        use_cores(count)
        together.wait(10)
        seen[count] = torch.get_num_threads()

    threads = [threading.Thread(target=use, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1: 1, 2: 2, 3: 3}


def test_a_image_does_not_depend_on_the_number_of_cores():
    pipeline = ns.Pipeline.from_pretrained("starter")
    generator = torch.Generator().manual_seed(0)
    size = pipeline.tokenizer.config.codebook_size
    tokens = [torch.randint(size, (2, h * w), generator=generator) for h, w in pipeline.tokenizer.schedule.sizes]
    images = []
    for cores in (1, 3):
        torch.set_num_threads(cores)
        images.append(decode_each(pipeline.ready()[0], tokens))
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("name", "float16", "amx", "fast"),
    [
        ("AMD EPYC", False, False, True),
        ("AMD EPYC", True, False, True),
        ("Intel Xeon", True, True, True),
        ("Intel Xeon", True, False, False),
        ("Intel Xeon", False, False, True),  # Cooper Lake
    ],
)
def test_bfloat16_is_fast_but_on_intel_cpus_that_hide_their_tiles(monkeypatch, name, float16, amx, fast):
    known = {"cpu_name": name, "avx512_fp16": float16}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_fast_bfloat16(torch.device("cpu")) == fast
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not has_fast_bfloat16(torch.device("cpu"))


def test_a_pytorch_that_does_not_tell_what_the_cpu_has_is_no_reason_to_stop(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not is_intel()
