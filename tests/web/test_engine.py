"""The engine: images do not depend on their batch, and no request waits forever."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny import refused, same
from tiny_web import SETTINGS, alone, job, occupy, pixels

import nextscale as ns
from nextscale.editing.plan import plan_edit
from nextscale.editing.spec import EditSpec
from nextscale.errors import NotEnoughMemory
from nextscale.sampling.sampler import ScaleStep
from nextscale.sampling.settings import SamplingSettings
from nextscale.web.limits import Limits
from nextscale.web.tickets import Busy, Cancelled, Closed, Done, Expired, Failed, Job, Scale


def test_every_image_is_the_one_drawn_alone_with_its_seed(start, pipeline, hold):
    engine = start(batch_images=8)
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(*range(i, i + 1 + i % 3), label=i % 6)) for i in range(9)]
    for i, ticket in enumerate(tickets):
        done = ticket.result()
        assert len(done.images) == 1 + i % 3
        for j, image in enumerate(pixels(done.pil_images)):
            expected = alone(pipeline, i % 6, i + j)
            assert same([t[j : j + 1] for t in done.tokens], expected.tokens)
            assert image == expected.images[0].tobytes()
    assert len(pipeline.batches) == 4  # the one that was being drawn, and 18 images by 8


def test_only_equal_settings_share_a_batch(start, pipeline, hold):
    engine = start()
    other = SamplingSettings(cfg=2.0, top_k=900, top_p=0.95)
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(i, settings=other if i % 2 else SETTINGS)) for i in range(6)]
    for ticket in tickets:
        ticket.result()
    assert pipeline.batches == [[99], [0, 2, 4], [1, 3, 5]]
    assert pixels(tickets[1].result().pil_images) == pixels(alone(pipeline, 2, 1, cfg=2.0).images)


def test_a_large_request_is_drawn_in_several_batches(start, pipeline):
    engine = start(batch_images=4)
    ticket = engine.submit(job(*range(10), watch=True))
    events = list(ticket.events())
    assert [len(batch) for batch in pipeline.batches] == [4, 4, 2]
    scales = [(event.first, event.index) for event in events if isinstance(event, Scale)]
    for first in (0, 4, 8):
        assert [k for f, k in scales if f == first] == [0, 1, 2, 3]
    done = events[-1]
    assert isinstance(done, Done) and len(done.pil_images) == 10
    assert done.pil_images[9].tobytes() == alone(pipeline, 2, 9).images[0].tobytes()
    with refused("at most 16", "17"):
        engine.submit(job(*range(17)))


def test_who_watches_sees_every_scale_and_only_their_own_images(start, pipeline, hold, monkeypatch):
    engine = start()
    decoded: list[int] = []
    decode = ScaleStep.image
    monkeypatch.setattr(ScaleStep, "image", lambda step: decoded.append(len(step.canvas)) or decode(step))
    with hold():
        occupy(engine, pipeline)
        others, watched = engine.submit(job(1, 2, 3)), engine.submit(job(4, 5, watch=True))
    *scales, done = watched.events()
    assert [scale.size for scale in scales] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert all(isinstance(scale, Scale) and len(scale.pil_images) == 2 for scale in scales)
    assert pixels(scales[-1].pil_images) == pixels(done.pil_images)
    assert decoded == [2, 2, 2]  # of five images, and of four scales: the last is there anyway
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model)
    for scale, step in zip(scales, plain.scales([2], seed=[4], **vars(SETTINGS)), strict=True):
        assert torch.allclose(scale.images[:1], step.image(), atol=1e-4)
    assert [event for event in others.events() if isinstance(event, Scale)] == []


def test_edits_of_different_images_share_a_batch_and_stay_exact(start, pipeline, hold):
    engine = start()
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model, pipeline.class_names)
    given = [Image.new("RGB", (8, 8), colour) for colour in ((200, 40, 40), (40, 40, 200))]
    boxes = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    plans = [plan_edit(EditSpec(box=box), pipeline.tokenizer, p) for p, box in zip(given, boxes, strict=True)]
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(7, 8, edit=plan.edit)) for plan in plans]
        not_an_edit = engine.submit(job(7))
    assert pixels(not_an_edit.result().pil_images) == pixels(alone(pipeline, 2, 7).images)
    for plan, ticket in zip(plans, tickets, strict=True):
        for j, image in enumerate(pixels(ticket.result().pil_images)):
            expected = plain.carry_out(plan, [2], seed=[7 + j], composite=False, **vars(SETTINGS))
            assert image == expected.images[0].tobytes()
    assert sorted(pipeline.batches) == [[7], [7, 8, 7, 8], [99]]


def test_an_edit_that_does_not_fit_is_refused_at_once(start, pipeline):
    engine = start()
    edit = plan_edit(EditSpec(box=(0, 0, 1, 0.5)), pipeline.tokenizer, Image.new("RGB", (8, 8))).edit
    with refused("keep mask"):
        engine.submit(job(1, edit=replace(edit, keep=torch.ones(3, 3))))
    with refused("scales"):
        engine.submit(job(1, edit=replace(edit, tokens=edit.tokens[:2])))
    with refused("label", "seed"):
        Job((1, 2), (3,), SETTINGS)


def test_a_smooth_image_is_the_same_up_to_rounding(start, pipeline, hold):
    engine, smooth = start(), replace(SETTINGS, more_smooth=True)
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(i, settings=smooth)) for i in range(4)]
    for i, ticket in enumerate(tickets):
        difference = ticket.result().images * 255 - torch.tensor(
            list(alone(pipeline, 2, i, more_smooth=True).images[0].tobytes())
        ).view(1, 8, 8, 3).permute(0, 3, 1, 2)
        assert difference.abs().max() < 0.51


def test_the_queue_has_a_limit_in_images(start, pipeline, hold):
    engine = start(queue_images=5)
    with hold():
        first = occupy(engine, pipeline)
        waiting = [engine.submit(job(1, 2, 3)), engine.submit(job(4, 5))]
        assert engine.waiting == 5
        with pytest.raises(Busy, match="queue is full: 5 of at most 5") as caught:
            engine.submit(job(6))
        assert caught.value.retry_after >= 1
        waiting[0].cancel()
        assert engine.waiting == 2  # who has gone does not count
        late = engine.submit(job(6, 7, 8))
    for ticket in (first, waiting[1], late):
        assert ticket.result().pil_images
    assert engine.waiting == 0


def test_new_seeds_are_chance_unless_the_engine_has_one(start):
    (a, b), (c, d), (e, f) = [
        (engine.new_seed(), engine.new_seed()) for engine in (start(), start(seed=7), start(seed=7))
    ]
    assert (c, d) == (e, f) and c != d and (a, b) != (c, d)


def test_what_the_queue_can_never_hold_is_refused_for_good(start):
    with refused("at most 2 images, not 3"):
        start(queue_images=2).submit(job(1, 2, 3))


def test_memory_is_given_back_now_and_then(start, monkeypatch):
    trimmed: list[int] = []
    monkeypatch.setattr("nextscale.web.engine.trim", lambda: trimmed.append(1))
    for seconds, expected in ((10.0, 0), (0.0, 1)):
        monkeypatch.setattr("nextscale.web.engine.TRIM_SECONDS", seconds)
        engine = start()
        engine.submit(job(1)).result()
        engine.close()
        assert len(trimmed) == expected


def test_a_cancelled_request_is_never_drawn(start, pipeline, hold):
    engine = start()
    with hold():
        occupy(engine, pipeline)
        gone, stays = engine.submit(job(1)), engine.submit(job(2))
        gone.cancel()
    stays.result()
    assert pipeline.batches == [[99], [2]]
    with pytest.raises(Cancelled):
        gone.result()


def test_drawing_stops_between_two_scales_when_nobody_is_left(start, pipeline):
    engine = start()
    pipeline.go.clear()
    ticket = occupy(engine, pipeline)
    ticket.cancel()
    pipeline.go.set()
    engine.submit(job(5)).result()
    assert pipeline.scales_sampled == 1 + 4  # one of the first request, all of the second


def test_the_time_limit_counts_waiting(start, pipeline, hold):
    engine = start(seconds=1)
    with hold():
        drawing = occupy(engine, pipeline)
        waiting = engine.submit(job(1))
        begun = time.monotonic()
        for ticket in (waiting, drawing):
            with pytest.raises(Expired, match="time limit of 1 s"):
                ticket.result()
        assert 0.5 < time.monotonic() - begun < 5
        assert engine.waiting == 0
    assert engine.submit(job(2)).result().pil_images
    assert pipeline.batches == [[99], [2]]


@pytest.mark.filterwarnings("ignore")
def test_a_failed_batch_fails_its_requests_alone(start, pipeline, hold, caplog):
    engine = start(batch_images=2)
    pipeline.trouble = lambda seeds: RuntimeError("a loose cable") if 3 in seeds else None
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(i)) for i in range(6)]
    for i, ticket in enumerate(tickets):
        if i in (2, 3):
            with pytest.raises(Failed, match="RuntimeError") as caught:
                ticket.result()
            assert "cable" not in str(caught.value)  # that is for the log
        else:
            assert pixels(ticket.result().pil_images) == pixels(alone(pipeline, 2, i).images)
    assert "a loose cable" in caplog.text
    assert engine.is_ready


def test_bad_input_found_while_drawing_is_said_as_such(start, pipeline):
    with refused("label 77"):
        start().submit(job(1, label=77)).result()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), MemoryError(), NotEnoughMemory("needs 9 GB")])
def test_a_batch_that_memory_does_not_suffice_for_is_halved(start, pipeline, hold, error):
    engine = start()
    pipeline.trouble = lambda seeds: error if len(seeds) > 2 else None
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(0, 1, 2, watch=True)), engine.submit(job(3, 4))]
    for ticket in tickets:
        for seed, image in zip(ticket.job.seeds, pixels(ticket.result().pil_images), strict=True):
            assert image == alone(pipeline, 2, seed).images[0].tobytes()
    assert pipeline.batches == [[99], [0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]


def test_memory_that_does_not_suffice_for_one_image_fails_it(start, pipeline, caplog):
    engine = start()
    pipeline.trouble = lambda seeds: MemoryError() if seeds != [5] else None
    with pytest.raises(Failed, match="MemoryError"):
        engine.submit(job(1, 2)).result()
    assert engine.submit(job(5)).result().pil_images


def test_close_finishes_what_waits(start, pipeline, hold):
    engine = start()
    with hold():
        tickets = [occupy(engine, pipeline), engine.submit(job(1)), engine.submit(job(2, label=5))]
        closing = threading.Thread(target=engine.close)
        closing.start()
        while engine.is_ready:
            time.sleep(0.01)
        with pytest.raises(Closed, match="shutting down"):
            engine.submit(job(3))
    closing.join(10)
    assert not closing.is_alive()
    for ticket in tickets:
        assert ticket.result().pil_images


def test_close_refuses_what_the_drain_time_does_not_suffice_for(start, pipeline, hold):
    engine = start()
    with hold():
        tickets = [occupy(engine, pipeline), engine.submit(job(1))]
        closing = threading.Thread(target=engine.close, args=(0.1,))
        closing.start()
        for ticket in tickets:
            with pytest.raises(Closed, match="shut down before"):
                ticket.result()
    closing.join(10)
    assert not closing.is_alive() and pipeline.batches == [[99]]


def test_coroutines_see_the_same(start, pipeline):
    engine = start()

    async def look() -> list[Scale | Done]:
        return [event async for event in engine.submit(job(3, watch=True)).aevents()]

    *scales, done = asyncio.run(look())
    assert [scale.index for scale in scales if isinstance(scale, Scale)] == [0, 1, 2, 3]
    assert isinstance(done, Done) and pixels(done.pil_images) == pixels(alone(pipeline, 2, 3).images)
    assert asyncio.run(engine.submit(job(3)).aresult()).tokens[0].shape == (1, 1)


def test_a_coroutine_that_leaves_cancels_its_work(start, pipeline, hold):
    engine = start()

    async def leave() -> None:
        task = asyncio.ensure_future(engine.submit(job(1)).aresult())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with hold():
        occupy(engine, pipeline)
        asyncio.run(leave())
        assert engine.waiting == 0
    engine.submit(job(2)).result()
    assert pipeline.batches == [[99], [2]]


def test_a_coroutine_waits_no_longer_than_the_time_limit(start, pipeline, hold):
    engine = start(seconds=0.2)
    with hold(), pytest.raises(Expired):
        asyncio.run(engine.submit(job(1)).aresult())


def test_many_threads_at_once(start, pipeline):
    engine, results = start(), {}

    def ask(seed: int) -> None:
        results[seed] = engine.submit(job(seed)).result()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == list(range(40))
    assert all(pixels(done.pil_images) == pixels(alone(pipeline, 2, seed).images) for seed, done in results.items())
    assert len(pipeline.batches) < 40


def test_reports_say_what_was_drawn_at_once_and_how_long_it_took(start, pipeline, hold):
    engine, reports = start(), []
    engine.on_batch = reports.append
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(job(1, 2)), engine.submit(job(3))]
        time.sleep(0.1)
    for ticket in tickets:
        ticket.result()
    engine.close()
    assert [report.images for report in reports] == [1, 3]
    assert len(reports[1].waited) == 2 and min(reports[1].waited) > 0.09
    assert all(report.seconds > 0 for report in reports)


@pytest.mark.parametrize("name", [name for name in vars(Limits()) if name != "drain_seconds"])
def test_limits_are_positive(name):
    with refused(name.replace("_", "-")):
        Limits(**{name: 0})


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_drain_time_is_a_number(value):
    with refused("drain-seconds"):
        Limits(drain_seconds=value)
