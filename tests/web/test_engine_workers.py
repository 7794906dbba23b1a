"""Several workers of the engine."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny_web import alone, job, occupy, pixels

from nextscale.web.engine import count_workers
from nextscale.web.tickets import Closed


@pytest.fixture
def four_cores():
    cores = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(cores)


def test_several_workers_draw_at_once(start, pipeline, hold):
    engine = start(workers=2)
    with hold():
        tickets = [occupy(engine, pipeline)]
        pipeline.begun.clear()
        tickets += [engine.submit(job(1, label=0)), engine.submit(job(2, label=0))]
        assert pipeline.begun.wait(10)
        assert len(pipeline.batches) == 2 and engine.waiting <= 1
    for ticket, seed in zip(tickets, (99, 1, 2), strict=True):
        assert pixels(ticket.result().pil_images) == pixels(alone(pipeline, 0, seed).images)


def test_workers_share_evenly(start, pipeline):
    engine = start(workers=2)
    with engine._changed:  # no worker takes any before all are there
        tickets = [engine.submit(job(i)) for i in range(6)]
    for i, ticket in enumerate(tickets):
        assert pixels(ticket.result().pil_images) == pixels(alone(pipeline, 2, i).images)
    assert sorted(pipeline.batches) == [[0, 1, 2], [3, 4, 5]]
    with engine._changed:
        one, several = engine.submit(job(6)), engine.submit(job(7, 8, 9, 10, 11))
    assert one.result().pil_images and several.result().pil_images
    assert sorted(pipeline.batches)[2:] == [[6], [7, 8, 9, 10, 11]]  # a request stays in one piece


@pytest.mark.usefixtures("four_cores")
def test_workers_share_the_cores(start, pipeline, hold):
    engine, cores = start(workers=2), {}

    def note(seeds: list[int]) -> None:
        cores[seeds[0]] = torch.get_num_threads()

    pipeline.trouble = note
    with hold():
        first = occupy(engine, pipeline)
        pipeline.begun.clear()
        second = engine.submit(job(1))
        assert pipeline.begun.wait(10)
    assert first.result().pil_images and second.result().pil_images
    assert cores == {99: 4, 1: 2}
    engine.close()
    assert start(workers=2).submit(job(2)).result().pil_images
    assert cores[2] == 4


def test_as_many_workers_as_cores_on_a_cpu(monkeypatch):
    for cores, expected in ((1, 1), (2, 2), (64, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        assert count_workers(torch.device("cpu")) == expected
    assert count_workers(torch.device("cuda")) == 1


def test_close_ends_all_workers(start, pipeline, hold):
    engine = start(workers=2)
    with hold():
        tickets = [occupy(engine, pipeline)]
        pipeline.begun.clear()
        tickets.append(engine.submit(job(1)))
        assert pipeline.begun.wait(10)
        closing = threading.Thread(target=engine.close, args=(0.1,))
        closing.start()
        for ticket in tickets:
            with pytest.raises(Closed, match="shut down before"):
                ticket.result()
    closing.join(10)
    assert not closing.is_alive() and not any(worker.is_alive() for worker in engine._workers)
