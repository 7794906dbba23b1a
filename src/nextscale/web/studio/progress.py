"""Between the engine and the page: what is being drawn, and what went wrong in one sentence."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.errors import InputError
from nextscale.web.studio import figures
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Busy, Done, Refused, Scale, Work

NEW_SEEDS = 1_000_000
"""Seeds that are picked for the user are below, so that they can be read and typed."""

Step = tuple[Scale | Done, list[Image.Image]]
"""What happened, and the images so far."""


def watch(model: Model, work: Work) -> Generator[Step, None, None]:
    """Have images drawn, and see them appear. Whoever stops looking has them stopped, too.

    Raises:
        Refused: too much is waiting, or it takes too long.
        InputError: more images than a request may have.
    """
    ticket = model.engine.submit(work)
    shown: dict[int, Image.Image] = {}
    try:
        for event in ticket.events():
            shown.update(enumerate(event.pil_images, event.first if isinstance(event, Scale) else 0))
            yield event, [shown[i] for i in sorted(shown)]
    finally:
        ticket.cancel()


def say_scale(scale: Scale, model: Model, before: str = "") -> str:
    """``scale 3 of 6 (3 × 3)`` and a bar, as HTML."""
    (h, w), number = scale.size, scale.index + 1
    return figures.status(f"{before}scale {number} of {model.num_scales} ({h} × {w})", number / model.num_scales)


def pick_seed(seed: float | None, locked: bool) -> int:
    """The seed that the user wants to keep, or a new one.

    Raises:
        InputError: it is to be kept, but is empty.
    """
    if not locked:
        return secrets.randbelow(NEW_SEEDS)
    if seed is None:
        raise InputError("there is no seed to keep: expected an integer")
    return int(seed)


def spoken(function: Callable[..., Any]) -> Callable[..., Any]:
    """For functions behind buttons: a mistake or a full queue is said in a sentence on the page."""
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
        raise gr.Error(f"{error}{later}", title="Not now", print_exception=False) from error
    except InputError as error:
        raise gr.Error(str(error), title="Not possible", print_exception=False) from error
