"""The studio: four tabs over one or more models, and the page around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, TypeVar

import gradio as gr
from fastapi import FastAPI, Response
from PIL import Image
from starlette.routing import Mount

from nextscale import __version__
from nextscale.errors import InputError
from nextscale.web.engine import Engine
from nextscale.web.studio.compare import compare_tab
from nextscale.web.studio.edit import edit_tab, take
from nextscale.web.studio.generate import Drawn, generate_tab
from nextscale.web.studio.inside import inside_tab, look_inside
from nextscale.web.studio.page import Page, name_nothing
from nextscale.web.studio.progress import spoken
from nextscale.web.studio.served_model import Model
from nextscale.web.studio.theme import HEAD, beside, icon, make_theme, style

Made = TypeVar("Made")

AT_ONCE = 32
"""Visitors whose buttons are answered at once; the engine has its own queue behind."""

SWEEP = (60, 3600)
"""Seconds: how often old files are deleted, and when one is old."""


def build_studio(engine: Engine, others: Sequence[Engine] = (), scales: str = "") -> gr.Blocks:
    """The page.

    Args:
        others: engines of models to compare with.
        scales: the schedule that commands have to name for the engine's model, if any.
    """
    return in_event_loop(lambda: lay_out(Model(engine, scales), [Model(other) for other in others]))


def lay_out(model: Model, more: Sequence[Model]) -> gr.Blocks:
    """Header, tabs, footer, and what goes from tab to tab."""
    with Page(title="nextscale studio", analytics_enabled=False, delete_cache=SWEEP) as studio:
        gr.HTML(header(model), js_on_load=beside("page.js"))
        with gr.Tabs() as tabs:
            with gr.Tab("Generate", id="generate"):
                drawn = generate_tab(model)
            with gr.Tab("Edit", id="edit"):
                editing = edit_tab(model)
            with gr.Tab("Inside", id="inside"):
                seen = inside_tab(model)
            with gr.Tab("Compare", id="compare"):
                compare_tab([model, *more])
        gr.HTML(footer())

        def edit_it(images: Drawn, index: int | None, *corners: float) -> tuple[Any, ...]:
            image, label = one_of(images, index)
            return gr.Tabs(selected="edit"), *take(image, corners), label

        def look_at_it(images: Drawn, index: int | None) -> tuple[Any, ...]:
            return gr.Tabs(selected="inside"), *look_inside(one_of(images, index)[0], model)

        chosen = [drawn.drawn, drawn.chosen]
        drawn.edit.click(spoken(edit_it), [*chosen, *editing.corners], [tabs, *editing.taken], api_visibility="private")
        drawn.inside.click(spoken(look_at_it), chosen, [tabs, *seen], api_visibility="private")
        if model.is_quick:
            studio.load(drawn.greeting, None, drawn.outputs, show_progress="hidden", api_visibility="private")
    studio.queue(default_concurrency_limit=AT_ONCE, api_open=False)
    return studio


def one_of(images: Drawn, index: int | None) -> tuple[Image.Image, int]:
    """(an image that was drawn, its label).

    Raises:
        InputError: there is no such one.
    """
    index = 0 if index is None else index
    if not isinstance(index, int) or not 0 <= index < len(images):
        raise InputError("there is no such image: draw some first")
    _, image, label = images[index]
    return image, label


def mount_studio(app: FastAPI, studio: gr.Blocks, path: str) -> None:
    """Serve the page under a path of the server."""

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> Response:
        return Response(icon(), media_type="image/svg+xml")

    in_event_loop(
        lambda: gr.mount_gradio_app(
            app,
            studio,
            path=path,
            footer_links=[],
            show_error=False,  # only what the studio says itself
            ssr_mode=False,
            theme=make_theme(),
            css=style(),
            head=HEAD,
        )
    )
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            route.app.add_exception_handler(KeyError, name_nothing)


def in_event_loop(make: Callable[[], Made]) -> Made:
    """Call a function while an event loop runs: where none does, Gradio opens some that it never closes."""

    async def call() -> Made:
        return make()

    return asyncio.run(call())


def header(model: Model) -> str:
    return (
        '<header class="ns-header"><h1>nextscale <span>studio</span></h1>'
        f"<p>{escape(model.name)}: {escape(model.facts)}</p></header>"
    )


def footer() -> str:
    return (
        f'<footer class="ns-footer"><span>nextscale {escape(__version__)}</span>'
        '<a href="/openapi.json">HTTP API</a>'
        '<a href="https://arxiv.org/abs/2404.02905" rel="noreferrer">The paper</a></footer>'
    )
