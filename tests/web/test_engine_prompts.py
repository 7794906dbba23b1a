"""The engine with a text-to-image model: images depend on no other request, whatever its prompt and size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image
from tiny import refused, same
from tiny_infinity import WordEncoder
from tiny_prompts import PROMPTS, alone, held, make_parts, plain, prompt_job
from tiny_web import HeldPipeline, pixels

import nextscale as ns
from nextscale.conditioning.prompts import TextOptions
from nextscale.editing.plan import plan_edit
from nextscale.editing.spec import EditSpec
from nextscale.sampling.settings import FOR_PROMPTS
from nextscale.scales.image_shape import ImageShape
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.engine import Engine
from nextscale.web.tickets import Scale


@pytest.fixture
def pipeline() -> HeldPipeline:
    return held()


def occupy(engine, pipeline):
    """A request that is being sampled, so that others wait."""
    ticket = engine.submit(prompt_job("a hat", 99))
    assert pipeline.begun.wait(10)
    return ticket


def test_prompts_of_all_lengths_share_a_batch_and_stay_exact(start, pipeline, hold):
    engine = start()
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(prompt_job(prompt, 2 * i, 2 * i + 1)) for i, prompt in enumerate(PROMPTS)]
    for prompt, ticket in zip(PROMPTS, tickets, strict=True):
        done = ticket.result()
        for j, seed in enumerate(ticket.job.seeds):
            expected = alone(prompt, seed)
            assert same([t[j : j + 1] for t in done.tokens], expected.tokens)
            assert done.pil_images[j].tobytes() == expected.images[0].tobytes()
    assert pipeline.batches == [[99], list(range(8))]


def test_offloaded_models_serve_the_same_images():
    offloaded = ns.Pipeline(*make_parts(), device="cpu", dtype="float32", text_encoder=WordEncoder(), offload=True)
    engine = Engine(offloaded, "tiny")
    try:
        assert len(engine._workers) == 1
        tickets = [engine.submit(prompt_job(prompt, i)) for i, prompt in enumerate(PROMPTS)]
        for i, (prompt, ticket) in enumerate(zip(PROMPTS, tickets, strict=True)):
            assert ticket.result().pil_images[0].tobytes() == alone(prompt, i).images[0].tobytes()
    finally:
        engine.close(0)


def test_only_requests_of_one_size_and_one_negative_prompt_share_a_batch(start, pipeline, hold):
    engine = start()
    wide, stated = ImageShape(aspect="16:9"), ImageShape(size="42x24")
    grey, phrase = TextOptions(negative_prompt="grey"), TextOptions(positive_phrase=True)
    requests = [{}, {"shape": wide}, {"text": grey}, {"text": phrase}, {"shape": stated}, {"text": grey}, {}]
    with hold():
        occupy(engine, pipeline)
        tickets = [engine.submit(prompt_job("an old man", i, **more)) for i, more in enumerate(requests)]
    for i, (ticket, more) in enumerate(zip(tickets, requests, strict=True)):
        options = {name: value for part in more.values() for name, value in vars(part).items() if value}
        assert pixels(ticket.result().pil_images) == pixels(alone("an old man", i, **options).images)
    assert pipeline.batches == [[99], [0, 6], [1, 4], [2, 5], [3]]  # the same size, stated in two ways


def test_scales_are_those_of_the_size(start, pipeline):
    *scales, done = start().submit(prompt_job("a bee", 1, watch=True, shape=ImageShape(aspect="3:1"))).events()
    schedule = ScaleSchedule.infinity("0.06M", 1 / 3)
    assert [scale.size for scale in scales if isinstance(scale, Scale)] == list(schedule.sizes)
    assert {image.size for event in (*scales, done) for image in event.pil_images} == {(54, 18)}


def test_larger_images_go_into_smaller_batches(start, pipeline):
    engine = start(batch_images=6)
    tokens = [ScaleSchedule.infinity(budget).tokens_per_scale for budget in ("0.06M", "0.25M", "1M")]
    most = [engine.most_images(prompt_job("a", 1, shape=ImageShape(budget=b))) for b in ("0.06M", "0.25M", "1M")]
    assert most == [6, 6 * sum(tokens[0]) // sum(tokens[1]), 1]
    ticket = engine.submit(prompt_job("a", 1, 2, shape=ImageShape(budget="0.25M"), settings=FOR_PROMPTS.changed(cfg=1)))
    assert ticket.result().images.shape == (2, 3, 64, 64) and pipeline.batches == [[1], [2]]


def test_edits_of_one_size_share_a_batch(start, pipeline, hold):
    engine = start()
    images = [Image.new("RGB", size, colour) for size, colour in (((90, 50), "red"), ((160, 90), "blue"), ((9, 9), 0))]
    plans = [
        plan_edit(EditSpec(box=(0, 0, 0.5, 1)), pipeline.tokenizer, image, None, pipeline.schedule_for(image))
        for image in images
    ]
    with hold():
        occupy(engine, pipeline)
        tickets = [
            engine.submit(prompt_job(prompt, 5, 6, edit=plan.edit, schedule=plan.schedule))
            for prompt, plan in zip(PROMPTS, plans, strict=False)
        ]
    for prompt, plan, ticket in zip(PROMPTS, plans, tickets, strict=False):
        for j, image in enumerate(pixels(ticket.result().pil_images)):
            expected = plain().carry_out(plan, prompt, seed=[5 + j], composite=False)
            assert image == expected.images[0].tobytes()
    assert pipeline.batches == [[99], [5, 6, 5, 6], [5, 6]]


def test_what_does_not_fit_is_refused_at_once(start, pipeline):
    engine = start()
    job = prompt_job("a bee", 1)
    with refused("cfg", "7 scales", "2"):
        engine.submit(replace(job, settings=FOR_PROMPTS.changed(cfg=[1, 2])))
    with refused("guidance_blocks", "-3", "-4"):
        engine.submit(replace(job, settings=FOR_PROMPTS.changed(guidance_blocks=[-4])))
    edit = plan_edit(EditSpec(box=(0, 0, 1, 0.5)), pipeline.tokenizer, Image.new("RGB", (8, 8))).edit
    with refused("scale 2"):
        engine.submit(replace(job, edit=edit, shape=ImageShape(aspect="16:9")))


def test_a_server_without_a_text_encoder_does_not_start(start, pipeline):
    pipeline.set_text_encoder("")
    with refused("no text encoder"):
        start()
