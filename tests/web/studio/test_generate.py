"""The functions of the Generate tab."""

from __future__ import annotations

import shlex
import time

import gradio as gr
import pytest
from tiny import refused
from tiny_page import images_of, words_of
from tiny_web import SETTINGS, alone, pixels

from nextscale.provenance import read_provenance
from nextscale.sampling.sampler import ScaleStep
from nextscale.web.studio.generate import generate, generate_first, make_job
from nextscale.web.studio.progress import NEW_SEEDS, pick_seed, shown_errors, watch
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Busy, Cancelled


def test_images_come_scale_by_scale_and_end_as_the_pipeline_s(model):
    *steps, last = generate(model, make_job(model, [2, 0], 1, SETTINGS, 7))
    assert [words_of(step[0]) for step in steps] == [
        "waiting for the model …",
        *(f"scale {k} of 4 ({k} × {k})" for k in (1, 2, 3, 4)),
    ]
    assert words_of(last[0]) == "2 images" and words_of(last[1]) == "hat seed 7 PNG Ankle boot seed 8 PNG"
    expected = [alone(model.pipeline, label, seed).images[0] for label, seed in ((2, 7), (0, 8))]
    assert pixels(images_of(last[1])) == pixels(expected)
    assert len({image.tobytes() for step in steps[1:] for image in images_of(step[1])[:1]}) > 2


def test_each_class_gets_its_images_with_seeds_in_a_row(model):
    work = make_job(model, [3, 1], 2, SETTINGS, 10)
    assert (work.wanted, work.seeds) == ((3, 3, 1, 1), (10, 11, 12, 13))


def test_without_classes_they_are_random_but_repeatable(model):
    drawn = [make_job(model, [], 8, SETTINGS, seed).wanted for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and set(drawn[0]) <= set(range(5))


def test_images_say_how_they_were_made(model, tmp_path):
    *_, last = generate(model, make_job(model, [2, model.no_class], 1, SETTINGS, 7))
    for image, label, seed in zip(images_of(last[1]), ("hat", "none"), (7, 8), strict=True):
        (tmp_path / "a.png").write_bytes(b"")
        image.fp.seek(0)  # type: ignore[union-attr]
        (tmp_path / "a.png").write_bytes(image.fp.read())  # type: ignore[union-attr]
        made = read_provenance(tmp_path / "a.png")
        assert (made.labels, made.seed, made.num_images, made.model) == ((label,), (seed,), 1, "tiny")


def test_command_and_python_name_all_settings(model):
    *_, last = generate(model, make_job(model, [2, 0], 1, SETTINGS, 7))
    shown, command, python = last[-3:]
    words = shlex.split(command)
    assert words[:2] == ["nextscale", "sample"] and shown["visible"]
    assert words[words.index("--labels") + 1 :][:2] == ["hat", "Ankle boot"]
    assert words[words.index("--seeds") + 1 :][:2] == ["7", "8"]
    compile(python, "shown", "exec")
    assert "save(f'images-{i:03d}.png')" in python


def test_a_drawn_image_can_be_handed_on(model):
    *_, last = generate(model, make_job(model, [2], 1, SETTINGS, 7))
    (name, image, label), *rest = last[3]
    assert (name, label, rest) == ("hat, seed 7", 2, []) and image.size == (8, 8)
    assert last[4]["choices"] == [("hat, seed 7", "hat, seed 7")] or last[4]["choices"] == ["hat, seed 7"]


def test_who_stops_looking_has_drawing_stopped(model, pipeline, monkeypatch):
    decode = ScaleStep.image
    monkeypatch.setattr(ScaleStep, "image", lambda step: (pipeline.go.clear(), decode(step))[1])
    steps = watch(model, make_job(model, [2], 1, SETTINGS, 7))
    next(steps)
    steps.close()
    pipeline.go.set()
    deadline = time.monotonic() + 10
    while model.engine._running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not model.engine._running and pipeline.scales_sampled < 4


def test_too_many_images_is_one_sentence(model):
    with refused("at most 16 images", 40):
        list(generate(model, make_job(model, [0, 1, 2, 3, 4], 8, SETTINGS, 0)))
    with refused("at least one image"):
        make_job(model, [0], 0, SETTINGS, 0)


def test_a_full_queue_and_a_mistake_are_said_on_the_page(start):
    model = Model(start(queue_images=1))
    with pytest.raises(gr.Error, match="at most 1 images, not 2"):
        list(shown_errors(lambda: list(generate(model, make_job(model, [0], 2, SETTINGS, 0))))())

    def steps():
        yield 1
        raise Busy("the queue is full", 3)

    with pytest.raises(gr.Error, match="the queue is full: try again in 3 s"):
        list(shown_errors(steps)())
    with pytest.raises(gr.Error, match="at least one"):
        shown_errors(make_job)(model, [0], 0, SETTINGS, 0)


def test_the_greeting_gives_way_to_those_who_wait(start):
    model = Model(start(queue_images=1))
    (only,) = list(generate_first(model))[-1:]
    assert words_of(only[0]) == "Select classes, then generate."
    assert len(images_of(list(generate_first(Model(start())))[-1][1])) == 4


def test_a_cancelled_drawing_is_said_too():
    def steps():
        yield 1
        raise Cancelled("the request was cancelled")

    with pytest.raises(gr.Error, match="cancelled"):
        list(shown_errors(steps)())


def test_seeds_are_kept_or_new():
    assert pick_seed(7, locked=True) == 7
    seeds = {pick_seed(7, locked=False) for _ in range(20)}
    assert len(seeds) > 10 and all(0 <= seed < NEW_SEEDS for seed in seeds)
    with refused("the seed to keep is empty"):
        pick_seed(None, locked=True)
    assert 0 <= pick_seed(None, locked=False) < NEW_SEEDS


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("seed", [-5, 2**53])
def test_a_seed_out_of_range_is_refused_even_if_it_is_not_kept(seed, locked):
    with refused("a seed must be from 0 to 9007199254740991 (2^53 - 1)", seed):
        pick_seed(seed, locked)
