"""The buttons of a tab that generate images and stop."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import gradio as gr
from gradio.blocks import BlockContext
from gradio.components import Component

from nextscale.web.studio import figures
from nextscale.web.studio.controls import SeedControls
from nextscale.web.studio.events import QUIET
from nextscale.web.studio.progress import shown_errors

STOPPED = "stopped"
Steps = Callable[..., Generator[tuple[Any, ...], None, None]]
"""The function of a button: yields outputs, the first of which is the status."""


class RunButtons(NamedTuple):
    """A button that generates images, and one that stops it, which is disabled unless images are generated."""

    run: gr.Button
    stop: gr.Button


def run_buttons(label: str, run_id: str, stop_id: str) -> RunButtons:
    """Add the buttons side by side."""
    with gr.Row(elem_classes="ns-beside"):
        run = gr.Button(label, variant="primary", elem_id=run_id, scale=3, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id=stop_id, scale=1, min_width=80)
    return RunButtons(run, stop)


def connect(
    buttons: RunButtons,
    seed: SeedControls,
    function: Steps,
    inputs: Sequence[Component | BlockContext],
    outputs: Sequence[Component | BlockContext],
    js: str | None = None,
    more: Sequence[Callable[..., Any]] = (),
) -> None:
    """Run a function when the button is clicked, or Enter is pressed in the field of the seed.

    Args:
        more: other events that run it.
        outputs: the first is the status.
        js: JavaScript that changes the input values.
    """
    running = gr.on(
        [buttons.run.click, seed.seed.submit, *more],
        shown_errors(stoppable(function)),
        list(inputs),
        [*outputs, buttons.stop],
        js=js,
        **QUIET,
    )
    buttons.stop.click(None, cancels=[running], **QUIET)
    running.failure(
        None,
        None,
        [outputs[0], buttons.stop],
        js=when_cancelled(buttons.stop),
        **QUIET,
    )


def when_cancelled(stop: gr.Button) -> str:
    """Return JavaScript for the outputs (status, Stop) after a failure.

    Gradio calls it after a cancellation, when no more outputs arrive, and after an error. Only after a cancellation is
    the button still enabled, see `stoppable`.
    """
    unchanged = json.dumps([gr.skip(), gr.skip()])
    stopped = json.dumps([figures.status(STOPPED), gr.update(interactive=False)])
    return f"() => document.querySelector('#{stop.elem_id}').disabled ? {unchanged} : {stopped}"


def stoppable(function: Steps) -> Steps:
    """Append the state of the Stop button to the outputs of a function: enabled while the function runs.

    After an error, the status says that the function has stopped, unless it failed before the first outputs.
    """

    @functools.wraps(function)
    def steps(*arguments: Any) -> Generator[tuple[Any, ...], None, None]:
        others = 0
        try:
            with closing(function(*arguments)) as made:
                for status, *more in made:
                    others = len(more)
                    yield status, *more, gr.update(interactive=True)
        except Exception:
            if others:
                yield figures.status(STOPPED), *(gr.skip(),) * others, gr.update(interactive=False)
            raise
        yield gr.skip(), *(gr.skip(),) * others, gr.update(interactive=False)

    return steps


def announced(function: Callable[..., tuple[Any, ...]], outputs: int, during: str, idle: str = "") -> Steps:
    """Return a generator that shows a status while a function runs.

    Args:
        function: returns outputs, the last of which is the status after it.
        outputs: number of outputs before the status.
        during: the status while the function runs.
        idle: the status after an error.
    """

    @functools.wraps(function)
    def steps(*arguments: Any) -> Generator[tuple[Any, ...], None, None]:
        unchanged = (gr.skip(),) * outputs
        yield *unchanged, figures.status(during)
        try:
            yield function(*arguments)
        except Exception:
            yield *unchanged, figures.status(idle)
            raise

    return steps
