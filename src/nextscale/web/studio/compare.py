"""The tab Compare: the same classes and seeds with two settings, or two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from nextscale.errors import InputError
from nextscale.provenance import Provenance
from nextscale.sampling.settings import SamplingSettings
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    LOOKS,
    SamplingControls,
    class_picker,
    read_settings,
    sampling_controls,
    seed_controls,
)
from nextscale.web.studio.generate import order
from nextscale.web.studio.progress import pick_seed, say_scale, spoken, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Scale, Work

MOST_EACH = 4
SIDES = ("A", "B")


def compare_tab(models: Sequence[Model]) -> None:
    """Lay out the tab. Side A begins with guidance as it looks best, side B without."""
    names = [model.name for model in models]
    sides: list[tuple[gr.Dropdown | gr.State, SamplingControls]] = []
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=4, min_width=280):
            classes = class_picker(models[0])
            each = gr.Slider(1, MOST_EACH, value=1, step=1, label="Images of each class")
            seed, locked = seed_controls()
            for i, (side, cfg) in enumerate(zip(SIDES, (LOOKS.cfg, 0), strict=True)):
                with gr.Group(elem_classes="ns-side"):
                    gr.HTML(f'<h2 class="ns-heading">{side}</h2>')
                    which = min(i, len(models) - 1)
                    if len(models) > 1:
                        model = gr.Dropdown([(name, j) for j, name in enumerate(names)], value=which, label="Model")
                    else:
                        model = gr.State(0)
                    sides.append((model, sampling_controls(models[which], cfg if len(models) == 1 else LOOKS.cfg)))
            button = gr.Button("Compare", variant="primary", elem_id="compare-button")
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status("Give the two sides settings, then compare."), elem_id="compare-status")
            images = gr.HTML(figures.hint("Pairs of images appear here."), elem_id="compared")
            repeating = [repeat_block(f"compare-{side.lower()}", f"Repeat {side}") for side in SIDES]

    def run(*values: Any) -> Iterator[tuple[Any, ...]]:
        classes, each, seed, locked, *rest = values
        chosen = [
            (models[index], read_settings(cfg, top_k, top_p, more_smooth))
            for index, cfg, top_k, top_p, more_smooth in (rest[:5], rest[5:])
        ]
        yield from compare(chosen, classes, each, pick_seed(seed, locked))

    inputs = [classes, each, seed, locked, *(c for model, sampling in sides for c in (model, *sampling))]
    gr.on(
        [button.click, seed.submit],
        spoken(run),
        inputs,
        [status, images, seed, *repeating[0], *repeating[1]],
        show_progress="hidden",
        api_visibility="private",
    )


def compare(
    sides: Sequence[tuple[Model, SamplingSettings]], classes: Sequence[int], each: int, seed: int
) -> Iterator[tuple[Any, ...]]:
    """(status, images, seed, how to repeat A, how to repeat B), as they come, one side after the other."""
    if len({model.no_class for model, _ in sides}) > 1:
        raise InputError("the two models have different numbers of classes: their images cannot be compared")
    works = [order(model, classes, each, settings, seed) for model, settings in sides]
    drawn: list[list[Image.Image]] = [[] for _ in sides]
    later = (*skip_repeat(), *skip_repeat())
    yield figures.status("waiting for the model …", 0), gr.skip(), seed, *later
    for i, ((model, _), work) in enumerate(zip(sides, works, strict=True)):
        for event, drawn[i] in watch(model, work):
            if isinstance(event, Scale):
                yield say_scale(event, model, f"{SIDES[i]}: "), pairs(sides, works, drawn), seed, *later
    count = len(works[0].labels)
    made = [provenance(model, work) for (model, _), work in zip(sides, works, strict=True)]
    yield (
        figures.status(f"{count} pair{'s' if count > 1 else ''}"),
        pairs(sides, works, drawn, made),
        seed,
        *(shown for how, side in zip(made, SIDES, strict=True) for shown in repeat(how, f"{side.lower()}.png")),
    )


def pairs(
    sides: Sequence[tuple[Model, SamplingSettings]],
    works: Sequence[Work],
    drawn: Sequence[Sequence[Image.Image]],
    made: Sequence[Provenance] | None = None,
) -> str:
    """Rows of two images, A beside B, as far as they are drawn; once it is known how they were made, they can be
    saved."""
    model, work = sides[0][0], works[0]
    heads = [f"<div><b>{side}</b> {escape(describe(*chosen))}</div>" for side, chosen in zip(SIDES, sides, strict=True)]
    shown: list[figures.Figure] = []
    for row, (label, seed) in enumerate(zip(work.labels, work.seeds, strict=True)):
        name = model.label_name(label)
        for i, side in enumerate(SIDES):
            image = drawn[i][row] if row < len(drawn[i]) else None
            file = figures.file_name(f"{side.lower()}-{name}", seed) if made else ""
            info = made[i].of_image(row).to_png_info() if made else None
            shown.append(figures.Figure(image, side, f"{name}, seed {seed}", file, info))
    return f'<div class="ns-grid ns-pair ns-heads">{"".join(heads)}</div>{figures.grid(shown, "pair")}'


def describe(model: Model, settings: SamplingSettings) -> str:
    """``starter, cfg 4, top-k 900, top-p 0.95``."""
    words = f"{model.name}, cfg {settings.cfg:g}, top-k {settings.top_k}, top-p {settings.top_p:g}"
    return f"{words}, smoother" if settings.more_smooth else words
