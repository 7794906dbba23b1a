"""Progress and errors of jobs, shown on the page."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.errors import InputError, brief
from nextscale.web.studio import figures
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import LARGEST_SEED, Busy, Done, Job, Refused, Scale

NEW_SEEDS = 1_000_000
"""Random seeds are below this number, so that they are easy to type."""

Step = tuple[Scale | Done, list[Image.Image]]
"""An event of the ticket, and the images so far."""


def watch(model: Model, job: Job) -> Generator[Step, None, None]:
    """Generate images and yield them after every scale. Closing the generator cancels the job.

    Raises:
        Refused: the queue is full, or the time limit has passed.
        InputError: the job has too many images.
    """
    ticket = model.engine.submit(job)
    shown: dict[int, Image.Image] = {}
    try:
        for event in ticket.events():
            shown.update(enumerate(event.pil_images, event.first if isinstance(event, Scale) else 0))
            yield event, [shown[i] for i in sorted(shown)]
    finally:
        ticket.cancel()


def scale_status(scale: Scale, model: Model, before: str = "") -> str:
    """Return ``scale 3 of 6 (3 × 3)`` with a progress bar, as HTML."""
    (h, w), number = scale.size, scale.index + 1
    return figures.status(f"{before}scale {number} of {model.num_scales} ({h} × {w})", number / model.num_scales)


def pick_seed(seed: float | None, locked: bool) -> int:
    """Return the seed if it is locked, else a random one.

    Raises:
        InputError: the locked seed is empty, or a seed is out of range, whether it is locked or not.
    """
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"a seed must be from 0 to {LARGEST_SEED} (2^53 - 1), not {brief(seed)}")
    if not locked:
        return secrets.randbelow(NEW_SEEDS)
    if seed is None:
        raise InputError("the seed to keep is empty: expected an integer")
    return int(seed)


def shown_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function of a button so that the page shows its errors."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*arguments: Any) -> Iterator[Any]:
            with sentences():
                yield from function(*arguments)

        return steps

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with sentences():
            return function(*arguments)

    return call


@contextmanager
def sentences() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        later = f": try again in {error.retry_after} s" if isinstance(error, Busy) else ""
        raise gr.Error(f"{error}{later}", title="Busy", print_exception=False) from error
    except InputError as error:
        raise gr.Error(str(error), title="Invalid input", print_exception=False) from error
