"""The Generate tab: images of classes, shown scale by scale."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component
from PIL import Image

from nextscale.errors import InputError
from nextscale.provenance import Provenance
from nextscale.sampling.settings import FOR_IMAGES, SamplingSettings
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    NUM_SETTINGS,
    classes_picker,
    first_classes,
    read_settings,
    sampling_controls,
    seed_controls,
)
from nextscale.web.studio.progress import pick_seed, scale_status, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.running import connect, run_buttons
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job, Refused, Scale

MOST_EACH = 8
READY = "Select classes, then generate."

Generated = list[tuple[str, Image.Image, int]]
"""The last images that a visitor generated: (name, image, label)."""


class GenerateTab(NamedTuple):
    """The controls that the page uses."""

    generated: gr.State
    """A `Generated`."""
    chosen: gr.Dropdown
    """Index of the image to open in another tab."""
    edit: gr.Button
    inspect: gr.Button
    first_images: Callable[[], Iterator[tuple[Any, ...]]]
    """Function that generates images for ``outputs`` when the page is opened."""
    outputs: list[Component]


def generate_tab(model: Model) -> GenerateTab:
    """Lay out the tab."""
    generated = gr.State([])
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=4, min_width=280):
            classes = classes_picker(model)
            each = gr.Slider(1, MOST_EACH, value=1, step=1, label="Images per class")
            sampling = sampling_controls(model)
            seed = seed_controls()
            buttons = run_buttons("Generate", "generate-button", "stop-button")
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status(READY), elem_id="generate-status")
            images = gr.HTML(figures.hint("Images appear here, coarse to fine."), elem_id="generated")
            with gr.Row(visible=False, equal_height=True, elem_classes="ns-further") as further:
                chosen = gr.Dropdown([], label="Image", type="index", scale=2, min_width=140)
                to_edit = gr.Button("Open in Edit", scale=1, min_width=140)
                to_inspect = gr.Button("Open in Inspect", scale=1, min_width=140)
            repeating = repeat_block("generate")

    def run_generate(classes: Any, each: Any, *values: Any) -> Generator[tuple[Any, ...], None, None]:
        settings, (seed, locked) = read_settings(*values[:NUM_SETTINGS]), values[NUM_SETTINGS:]
        yield from generate(model, make_job(model, classes, each, settings, pick_seed(seed, locked)))

    outputs = [status, images, seed.seed, generated, chosen, further, *repeating]
    connect(buttons, seed, run_generate, [classes, each, *sampling, *seed], outputs)
    return GenerateTab(generated, chosen, to_edit, to_inspect, partial(generate_first, model), outputs)


def generate_first(model: Model) -> Iterator[tuple[Any, ...]]:
    """Generate images when the page is opened, unless the engine is busy."""
    try:
        yield from generate(model, make_job(model, first_classes(model), 1, FOR_IMAGES, 0))
    except (Refused, InputError):  # the queue is full, or too small
        yield figures.status(READY), *(gr.skip(),) * 8


def generate(model: Model, job: Job) -> Iterator[tuple[Any, ...]]:
    """Yield (status, images, seed, `Generated`, choice of an image, its visibility, commands) after every scale.

    Raises:
        Refused: the queue is full, or the time limit has passed.
        InputError: the job has too many images.
    """
    seed, unchanged = job.seeds[0], (gr.skip(), gr.skip(), gr.skip(), *skip_repeat())
    yield figures.status("waiting for the model …", 0), gr.skip(), seed, *unchanged
    for event, images in watch(model, job):
        if isinstance(event, Scale):
            yield scale_status(event, model), show(model, job, images), seed, *unchanged
            continue
        made = provenance(model, job)
        names = [f"{model.label_name(label)}, seed {s}" for label, s in zip(job.wanted, job.seeds, strict=True)]
        yield (
            figures.status(f"{len(images)} image{'s' if len(images) > 1 else ''}"),
            show(model, job, images, made),
            seed,
            list(zip(names, images, job.wanted, strict=True)),
            gr.update(choices=names, value=names[0]),
            gr.update(visible=True),
            *repeat(made, "images.png" if len(images) > 1 else "image.png"),
        )


def make_job(model: Model, classes: Sequence[int], each: int, settings: SamplingSettings, seed: int) -> Job:
    """Return a job with ``each`` images per selected class, or ``each`` images of random classes if none is selected.

    The first image gets the seed, and the others get the following integers.
    """
    if each < 1:
        raise InputError(f"expected at least one image per class, not {each}")
    if classes:
        labels = [label for label in classes for _ in range(each)]
    else:
        labels = random.Random(seed).choices(range(model.no_class), k=each)
    return Job(tuple(labels), tuple(range(seed, seed + len(labels))), settings, watch=True)


def show(model: Model, job: Job, images: Sequence[Image.Image], made: Provenance | None = None) -> str:
    """Show the images so far, with placeholders for the others. With their provenance, they can be downloaded."""
    shown = [*images, *(None,) * (len(job.wanted) - len(images))]
    return figures.grid(
        [
            figures.Figure(
                image,
                model.label_name(label),
                f"seed {seed}",
                file=figures.file_name(model.label_name(label), seed) if made else "",
                info=made.of_image(i).to_png_info() if made else None,
            )
            for i, (image, label, seed) in enumerate(zip(shown, job.wanted, job.seeds, strict=True))
        ]
    )
