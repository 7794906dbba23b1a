"""Buttons that generate and stop, and the status beside slow functions."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import gradio as gr
import pytest
from tiny import refused
from tiny_page import words_of

from nextscale.errors import InputError
from nextscale.web.studio.running import announced, stoppable
from nextscale.web.studio.studio import build_studio
from nextscale.web.tickets import Busy


@pytest.fixture
def studio(start) -> gr.Blocks:
    return build_studio(start(), [start()])


def test_stop_is_enabled_only_while_images_are_generated():
    def made() -> Generator[tuple[Any, ...], None, None]:
        yield "scale 1", "coarse"
        yield "1 image", "fine"

    steps = list(stoppable(made)())
    assert [step[:2] for step in steps[:2]] == [("scale 1", "coarse"), ("1 image", "fine")]
    assert [step[2]["interactive"] for step in steps] == [True, True, False]
    assert [step[:2] for step in steps[2:]] == [(gr.skip(), gr.skip())]


def test_an_error_half_way_stops_the_status_and_the_button():
    def made() -> Generator[tuple[Any, ...], None, None]:
        yield "scale 1", "coarse"
        raise Busy("the queue is full", 3)

    steps = stoppable(made)()
    next(steps)
    status, image, stop = next(steps)
    assert (words_of(status), image, stop["interactive"]) == ("stopped", gr.skip(), False)
    with pytest.raises(Busy):
        next(steps)


def test_an_error_before_the_first_image_changes_nothing():
    def made() -> Generator[tuple[Any, ...], None, None]:
        raise InputError("no such class")
        yield ()

    with refused("no such class"):
        next(stoppable(made)())


def test_stopping_closes_what_runs():
    closed = []

    def made() -> Generator[tuple[Any, ...], None, None]:
        try:
            yield "scale 1", "coarse"
            yield "scale 2", "fine"
        finally:
            closed.append(True)

    steps = stoppable(made)()
    next(steps)
    steps.close()
    assert closed


def test_a_slow_function_is_announced():
    first, last = announced(lambda value: (value, 2), 2, "encoding …", "ready")(1)
    assert first[:2] == (gr.skip(), gr.skip()) and words_of(first[2]) == "encoding …"
    assert last[:2] == (1, 2) and words_of(last[2]) == "ready"


def test_and_no_longer_after_an_error():
    def failing() -> tuple[Any, ...]:
        raise InputError("not an image")

    steps = announced(failing, 2, "encoding …", "ready")()
    next(steps)
    assert words_of(next(steps)[2]) == "ready"
    with refused("not an image"):
        next(steps)


def test_every_stop_button_is_disabled_at_first(studio):
    stops = [block for block in studio.blocks.values() if isinstance(block, gr.Button) and block.value == "Stop"]
    assert len(stops) == 3 and not any(stop.interactive for stop in stops)


def test_an_error_marks_no_other_control(studio):
    """Gradio puts a badge on every output of a function that failed, unless its progress is hidden."""
    assert {function.show_progress for function in studio.fns.values() if function.outputs} == {"hidden"}
