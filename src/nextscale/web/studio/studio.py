"""The studio: a page with four tabs for one or more models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any, TypeVar

import gradio as gr
from fastapi import FastAPI, Response
from gradio.route_utils import FnIndexInferError
from PIL import Image
from starlette.routing import Mount

from nextscale import __version__
from nextscale.errors import InputError
from nextscale.web.engine import Engine
from nextscale.web.studio import figures
from nextscale.web.studio.compare import compare_tab
from nextscale.web.studio.edit import edit_tab
from nextscale.web.studio.events import QUIET
from nextscale.web.studio.generate import Generated, generate_tab
from nextscale.web.studio.inspection import ENCODING, inspect_image, inspect_tab
from nextscale.web.studio.page import Page, name_nothing
from nextscale.web.studio.progress import shown_errors
from nextscale.web.studio.served_model import Model
from nextscale.web.studio.theme import HEAD, icon, make_theme, scripts, style

Made = TypeVar("Made")

AT_ONCE = 32
"""Maximum number of button clicks processed at the same time. The engine has a separate queue."""

SWEEP = (60, 3600)
"""Seconds between deletions of old files, and the age of an old file in seconds."""


def build_studio(engine: Engine, others: Sequence[Engine] = (), scales: str = "") -> gr.Blocks:
    """Build the page.

    Args:
        others: engines of additional models for the Compare tab.
        scales: value of ``--scales`` in commands, for .pth files with an unofficial schedule.
    """
    return in_event_loop(lambda: lay_out(Model(engine, scales), [Model(other) for other in others]))


def lay_out(model: Model, more: Sequence[Model]) -> gr.Blocks:
    """Lay out header, tabs and footer, and connect the tabs."""
    with Page(title="nextscale studio", analytics_enabled=False, delete_cache=SWEEP) as studio:
        gr.HTML(header(model), js_on_load=scripts())
        with gr.Tabs() as tabs:
            with gr.Tab("Generate", id="generate"):
                generated = generate_tab(model)
            with gr.Tab("Edit", id="edit"):
                editing = edit_tab(model)
            with gr.Tab("Inspect", id="inspect"):
                inspected = inspect_tab(model)
            with gr.Tab("Compare", id="compare"):
                compare_tab([model, *more])
        gr.HTML(footer([model, *more]))

        def open_in_edit(images: Generated, index: int | None, *inputs: Any) -> tuple[Any, ...]:
            image, wanted = one_of(images, index)
            return gr.Tabs(selected="edit"), wanted, *editing.take(image, *inputs)

        def open_in_inspect(images: Generated, index: int | None) -> Iterator[tuple[Any, ...]]:
            image, _ = one_of(images, index)
            yield gr.Tabs(selected="inspect"), *(gr.skip(),) * 3, figures.status(ENCODING)
            yield gr.skip(), *inspect_image(image, model), figures.status("")

        chosen = [generated.generated, generated.chosen]
        generated.edit.click(
            shown_errors(open_in_edit),
            [*chosen, *editing.inputs],
            [tabs, editing.wanted, *editing.outputs],
            **QUIET,
        )
        generated.inspect.click(
            shown_errors(open_in_inspect),
            chosen,
            [tabs, *inspected],
            **QUIET,
        )
        if model.is_quick:
            studio.load(generated.first_images, None, generated.outputs, **QUIET)
    studio.queue(default_concurrency_limit=AT_ONCE, api_open=False)
    return studio


def one_of(images: Generated, index: int | None) -> tuple[Image.Image, int | str]:
    """Return a generated image and its class or prompt.

    Raises:
        InputError: there is no such image.
    """
    index = 0 if index is None else index
    if not isinstance(index, int) or not 0 <= index < len(images):
        raise InputError("there is no such image: generate some first")
    _, image, wanted = images[index]
    return image, wanted


def mount_studio(app: FastAPI, studio: gr.Blocks, path: str) -> None:
    """Mount the page on a path of the server."""

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return Response(icon(), media_type="image/svg+xml")

    in_event_loop(
        lambda: gr.mount_gradio_app(
            app,
            studio,
            path=path,
            footer_links=[],
            show_error=False,  # only errors that the studio raises itself
            ssr_mode=False,
            theme=make_theme(),
            css=style(),
            head=HEAD,
        )
    )
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            for unknown in (KeyError, FnIndexInferError):
                route.app.add_exception_handler(unknown, name_nothing)


def in_event_loop(make: Callable[[], Made]) -> Made:
    """Call a function inside an event loop. Without one, Gradio opens event loops that it never closes."""

    async def call() -> Made:
        return make()

    return asyncio.run(call())


def header(model: Model) -> str:
    return (
        '<header class="ns-header"><h1>nextscale <span>studio</span></h1>'
        f"<p>{escape(model.name)}: {escape(model.facts)}</p></header>"
    )


def footer(models: Sequence[Model]) -> str:
    papers = {model.pipeline.family.title: model.pipeline.family.paper for model in models}
    links = "".join(f'<a href="{paper}" rel="noreferrer">{title} paper</a>' for title, paper in papers.items())
    return (
        f'<footer class="ns-footer"><span>nextscale {escape(__version__)}</span>'
        f'<a href="/openapi.json">HTTP API</a>{links}</footer>'
    )
