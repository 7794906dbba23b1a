"""Cores: what is computed on one of them does not depend on how many there are."""

from __future__ import annotations

import threading

import pytest
import torch

import nextscale as ns
from nextscale.device import one_core_each, use_cores


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


def test_a_picture_does_not_depend_on_the_number_of_cores():
    pipeline = ns.Pipeline.from_pretrained("starter")
    generator = torch.Generator().manual_seed(0)
    size = pipeline.tokenizer.config.codebook_size
    tokens = [torch.randint(size, (2, h * w), generator=generator) for h, w in pipeline.tokenizer.schedule.sizes]
    pictures = []
    for cores in (1, 3):
        torch.set_num_threads(cores)
        pictures.append(pipeline.decode_each(tokens))
    assert torch.equal(*pictures)
