"""With one process, communication does nothing."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tiny import refused

from nextscale.runtime import distributed

CPU = torch.device("cpu")


@pytest.mark.parametrize("exchange", [distributed.all_sum, distributed.all_mean, distributed.gather])
def test_a_tensor_stays_what_it_is(exchange):
    tensor = torch.arange(6.0).view(3, 2)
    assert exchange(tensor) is tensor
    assert torch.equal(tensor, torch.arange(6.0).view(3, 2))


def test_one_process_is_the_main_one():
    assert distributed.rank() == 0 and distributed.world_size() == 1 and distributed.is_main()
    assert distributed.side_group() is None
    distributed.barrier()


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_is_its_own(condition):
    assert distributed.any_process(condition, CPU) is condition


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_no_processes_are_joined_where_torchrun_started_one(environment, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with distributed.processes(CPU) as device:
        assert device is CPU and not dist.is_initialized()


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with refused("process 2", "there are 2"), distributed.processes(torch.device("cuda")):
        pass
    assert not dist.is_initialized()
