"""The tab Generate: classes in, images out, scale by scale."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component
from PIL import Image

from nextscale.errors import InputError
from nextscale.provenance import Provenance
from nextscale.sampling.settings import SamplingSettings
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    LOOKS,
    class_picker,
    first_classes,
    read_settings,
    sampling_controls,
    seed_controls,
)
from nextscale.web.studio.progress import pick_seed, say_scale, spoken, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Refused, Scale, Work

MOST_EACH = 8

Drawn = list[tuple[str, Image.Image, int]]
"""What a visitor has drawn last: (name, image, label)."""


class GenerateTab(NamedTuple):
    """What the page needs of the tab."""

    drawn: gr.State
    """A `Drawn`."""
    chosen: gr.Dropdown
    """Which of them to hand to another tab, as an index."""
    edit: gr.Button
    inside: gr.Button
    greeting: Callable[[], Iterator[tuple[Any, ...]]]
    """What the page draws when it is opened, for ``outputs``."""
    outputs: list[Component]


def generate_tab(model: Model) -> GenerateTab:
    """Lay out the tab."""
    drawn = gr.State([])
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=4, min_width=280):
            classes = class_picker(model)
            each = gr.Slider(1, MOST_EACH, value=1, step=1, label="Images of each class")
            sampling = sampling_controls(model)
            seed, locked = seed_controls()
            with gr.Row(elem_classes="ns-beside"):
                button = gr.Button("Draw", variant="primary", elem_id="draw", scale=3, min_width=120)
                stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status("Choose classes, then draw."), elem_id="draw-status")
            images = gr.HTML(figures.hint("Images appear here, coarse to fine."), elem_id="drawn")
            with gr.Row(visible=False, equal_height=True, elem_classes="ns-further") as further:
                chosen = gr.Dropdown([], label="Go on with", type="index", scale=2, min_width=140)
                to_edit = gr.Button("Edit it", scale=1, min_width=100)
                to_inside = gr.Button("Look inside", scale=1, min_width=100)
            repeating = repeat_block("generate")

    def draw(*values: Any) -> Iterator[tuple[Any, ...]]:
        classes, each, cfg, top_k, top_p, more_smooth, seed, locked = values
        settings = read_settings(cfg, top_k, top_p, more_smooth)
        yield from generate(model, order(model, classes, each, settings, pick_seed(seed, locked)))

    outputs = [status, images, seed, drawn, chosen, further, *repeating]
    drawing = gr.on(
        [button.click, seed.submit],
        spoken(draw),
        [classes, each, *sampling, seed, locked],
        outputs,
        show_progress="hidden",
        api_visibility="private",
    )
    stop.click(lambda: figures.status("stopped"), None, status, cancels=[drawing], api_visibility="private")
    return GenerateTab(drawn, chosen, to_edit, to_inside, partial(greet, model), outputs)


def greet(model: Model) -> Iterator[tuple[Any, ...]]:
    """Images without being asked; if the engine has no time for them, none."""
    try:
        yield from generate(model, order(model, first_classes(model), 1, LOOKS, 0))
    except (Refused, InputError):  # a queue that is full, or too short for them
        yield figures.status("Choose classes, then draw."), *(gr.skip(),) * 8


def generate(model: Model, work: Work) -> Iterator[tuple[Any, ...]]:
    """(status, images, seed, `Drawn`, choice of one, whether there is a choice, how to repeat it), as they come.

    Raises:
        Refused: too much is waiting, or it takes too long.
        InputError: more images than a request may have.
    """
    seed, later = work.seeds[0], (gr.skip(), gr.skip(), gr.skip(), *skip_repeat())
    yield figures.status("waiting for the model …", 0), gr.skip(), seed, *later
    for event, images in watch(model, work):
        if isinstance(event, Scale):
            yield say_scale(event, model), show(model, work, images), seed, *later
            continue
        made = provenance(model, work)
        names = [f"{model.label_name(label)}, seed {s}" for label, s in zip(work.labels, work.seeds, strict=True)]
        yield (
            figures.status(f"{len(images)} image{'s' if len(images) > 1 else ''}"),
            show(model, work, images, made),
            seed,
            list(zip(names, images, work.labels, strict=True)),
            gr.update(choices=names, value=names[0]),
            gr.update(visible=True),
            *repeat(made, "images.png" if len(images) > 1 else "image.png"),
        )


def order(model: Model, classes: Sequence[int], each: int, settings: SamplingSettings, seed: int) -> Work:
    """What is to be drawn: ``each`` images of every class that was picked, else of classes at random.

    The first image gets the seed, the others those that follow.
    """
    if each < 1:
        raise InputError(f"expected at least one image of each class, not {each}")
    if classes:
        labels = [label for label in classes for _ in range(each)]
    else:
        labels = random.Random(seed).choices(range(model.no_class), k=each)
    return Work(tuple(labels), tuple(range(seed, seed + len(labels))), settings, watch=True)


def show(model: Model, work: Work, images: Sequence[Image.Image], made: Provenance | None = None) -> str:
    """The images so far, those to come as empty places; once it is known how they were made, they can be saved."""
    shown = [*images, *(None,) * (len(work.labels) - len(images))]
    return figures.grid(
        [
            figures.Figure(
                image,
                model.label_name(label),
                f"seed {seed}",
                file=figures.file_name(model.label_name(label), seed) if made else "",
                info=made.of_image(i).to_png_info() if made else None,
            )
            for i, (image, label, seed) in enumerate(zip(shown, work.labels, work.seeds, strict=True))
        ]
    )
