"""The Generate tab: images of classes or of a prompt, shown scale by scale."""

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
from nextscale.sampling.settings import SamplingSettings
from nextscale.web.schemas import wanted_of
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    FIRST_PROMPT,
    NUM_SETTINGS,
    PromptInputs,
    classes_picker,
    first_classes,
    prompt_controls,
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
READY_FOR_TEXT = "Describe an image, then generate."

Generated = list[tuple[str, Image.Image, int | str]]
"""The last images that a visitor generated: (name, image, class or prompt)."""


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
            wanted: Sequence[Component] = prompt_controls(model) if model.is_text else [classes_picker(model)]
            each_label = "Images" if model.is_text else "Images per class"
            each = gr.Slider(1, MOST_EACH, value=1, step=1, label=each_label)
            sampling = sampling_controls(model)
            seed = seed_controls()
            buttons = run_buttons("Generate", "generate-button", "stop-button")
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status(ready(model)), elem_id="generate-status")
            images = gr.HTML(figures.hint("Images appear here, coarse to fine."), elem_id="generated")
            with gr.Row(visible=False, equal_height=True, elem_classes="ns-further") as further:
                chosen = gr.Dropdown([], label="Image", type="index", scale=2, min_width=140)
                to_edit = gr.Button("Open in Edit", scale=1, min_width=140)
                to_inspect = gr.Button("Open in Inspect", scale=1, min_width=140)
            repeating = repeat_block("generate")

    def run_generate(*values: Any) -> Generator[tuple[Any, ...], None, None]:
        asked, (each, *rest) = values[: len(wanted)], values[len(wanted) :]
        settings = read_settings(*rest[:NUM_SETTINGS], settings=model.settings)
        what = PromptInputs(*asked) if model.is_text else asked[0]
        yield from generate(model, make_job(model, what, each, settings, pick_seed(*rest[NUM_SETTINGS:])))

    outputs = [status, images, seed.seed, generated, chosen, further, *repeating]
    submits = [control.submit for control in wanted if isinstance(control, gr.Textbox)]
    connect(buttons, seed, run_generate, [*wanted, each, *sampling, *seed], outputs, more=submits)
    return GenerateTab(generated, chosen, to_edit, to_inspect, partial(generate_first, model), outputs)


def generate_first(model: Model) -> Iterator[tuple[Any, ...]]:
    """Generate images when the page is opened, unless the engine is busy."""
    what = PromptInputs(FIRST_PROMPT) if model.is_text else first_classes(model)
    try:
        yield from generate(model, make_job(model, what, 1, model.settings, 0))
    except (Refused, InputError):  # the queue is full, or too small
        yield figures.status(ready(model)), *(gr.skip(),) * 8


def ready(model: Model) -> str:
    return READY_FOR_TEXT if model.is_text else READY


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
        names = [name_in_list(model, wanted, s) for wanted, s in zip(job.wanted, job.seeds, strict=True)]
        yield (
            figures.status(f"{len(images)} image{'s' if len(images) > 1 else ''}"),
            show(model, job, images, made),
            seed,
            list(zip(names, images, job.wanted, strict=True)),
            gr.update(choices=names, value=names[0]),
            gr.update(visible=True),
            *repeat(made, "images.png" if len(images) > 1 else "image.png"),
        )


def name_in_list(model: Model, wanted: int | str, seed: int) -> str:
    """Return the name of an image among the last ones: class and seed, or the seed, because all have one prompt."""
    return f"seed {seed}" if model.is_text else f"{model.wanted_name(wanted)}, seed {seed}"


def make_job(model: Model, what: Sequence[int] | PromptInputs, each: int, settings: SamplingSettings, seed: int) -> Job:
    """Return a job with ``each`` images of a prompt, or per selected class, or of random classes if none is selected.

    The first image gets the seed, and the others get the following integers.
    """
    if each < 1:
        raise InputError(f"expected at least one image per class, not {each}")
    if isinstance(what, PromptInputs):
        prompts, seeds = (wanted_of(what.prompt, model.engine),) * each, tuple(range(seed, seed + each))
        return Job(prompts, seeds, settings, watch=True, text=what.text, shape=what.shape)
    classes = what
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
                model.wanted_name(wanted),
                f"seed {seed}",
                file=figures.file_name(model.wanted_name(wanted), seed) if made else "",
                info=made.of_image(i).to_png_info() if made else None,
            )
            for i, (image, wanted, seed) in enumerate(zip(shown, job.wanted, job.seeds, strict=True))
        ]
    )
