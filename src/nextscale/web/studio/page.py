"""Check values from the page before a control or a function uses them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse
from gradio.utils import get_upload_folder

from nextscale.errors import brief
from nextscale.web.errors import refuse

log = logging.getLogger(__name__)
LONGEST_LINE = 300
NOT_UPLOADED = "this file was not uploaded here, or has been deleted: upload it again"
NO_BUTTON = "the page has no such button"
NOT_A_VALUE = "a control has an invalid value"


class Page(gr.Blocks):
    """Blocks that read only files of the upload folder, and reject invalid values with a message and a log line.

    Gradio checks paths itself only in apps that it launches, not in mounted ones.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> list[Any]:
        try:
            if block_fn.fn is None:
                raise gr.Error(NO_BUTTON)
            for path in paths_in(inputs):
                if not is_uploaded(path):
                    raise gr.Error(NOT_UPLOADED)
            for block, value in zip(block_fn.inputs, inputs, strict=True):
                if isinstance(block, gr.Slider | gr.Number):
                    check_number(block, value)
            return await super().preprocess_data(block_fn, inputs, *more, **named)
        except gr.Error as error:
            what = str(error.message)
            log.warning("the studio refused a request: %s", one_line(what))
            raise gr.Error(what, title="Invalid input", print_exception=False) from error
        except Exception as error:  # Gradio's controls raise many kinds of errors for invalid values
            log.warning("the studio refused a request: %s: %s", NOT_A_VALUE, one_line(str(error)))
            raise gr.Error(NOT_A_VALUE, title="Invalid input", print_exception=False) from error


def name_nothing(request: Request, error: Exception) -> JSONResponse:
    """Answer a request for an unknown button, which Gradio does not check."""
    log.warning("the studio refused a request: %s: %s", NO_BUTTON, one_line(str(error)))
    return refuse(404, NO_BUTTON)


def paths_in(value: Any) -> Iterator[Any]:
    """Yield every value with the key "path" in a JSON value, at any depth."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        for part in value.values():
            yield from paths_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from paths_in(part)


def is_uploaded(path: Any) -> bool:
    """Return whether a path leads to a file in the upload folder, with links resolved."""
    try:
        real, folder = os.path.realpath(path), os.path.realpath(get_upload_folder())
        return real.startswith(folder + os.sep) and os.path.isfile(real)
    except (TypeError, ValueError, OSError):
        return False


def check_number(block: gr.Slider | gr.Number, value: Any) -> None:
    """Raise gr.Error for a number that the control does not allow, before Gradio rounds it. Gradio itself rejects other
    values."""
    if isinstance(block, gr.Slider):
        if value is None:
            raise gr.Error(f"{block.label} is empty: expected a number from {block.minimum} to {block.maximum}")
        if isinstance(value, int | float) and not block.minimum <= value <= block.maximum:
            raise gr.Error(f"{block.label} must be from {block.minimum} to {block.maximum}, not {brief(value)}")
    whole = block.precision == 0 or (isinstance(block, gr.Slider) and block.step == 1)
    if whole and isinstance(value, float) and not value.is_integer():
        raise gr.Error(f"{block.label} must be an integer, not {value}")


def one_line(words: str) -> str:
    return " ".join(words.split())[:LONGEST_LINE]
