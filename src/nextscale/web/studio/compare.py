"""The Compare tab: the same classes or prompt and the same seeds with two settings or two models."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import fields
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from nextscale.errors import InputError
from nextscale.provenance import Provenance
from nextscale.sampling.settings import SamplingSettings, is_number
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    NUM_SETTINGS,
    SHOWN,
    PromptInputs,
    classes_picker,
    prompt_controls,
    read_settings,
    sampling_controls,
    seed_controls,
    shown_value,
)
from nextscale.web.studio.events import DIRECT
from nextscale.web.studio.generate import make_job
from nextscale.web.studio.progress import pick_seed, scale_status, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.running import connect, run_buttons
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job, Scale

MOST_EACH = 4
SIDES = ("A", "B")
NO_PROMPT = PromptInputs()


def compare_tab(models: Sequence[Model]) -> None:
    """Lay out the tab. Initially, side A uses guidance and side B does not, unless there are two models."""
    names = [model.name for model in models]
    of_classes, of_text = [[m for m in models if m.is_text is is_text] for is_text in (False, True)]
    sides: list[list[Component]] = []
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=4, min_width=280):
            classes: Component = classes_picker(of_classes[0]) if of_classes else gr.State([])
            prompt: Sequence[Component] = prompt_controls(of_text[0]) if of_text else ()
            each_label = "Images per class" if of_classes else "Images"
            each = gr.Slider(1, MOST_EACH, value=1, step=1, label=each_label)
            seed = seed_controls()
            for i, side in enumerate(SIDES):
                with gr.Group(elem_classes="ns-side"):
                    gr.HTML(f'<h2 class="ns-heading">{side}</h2>')
                    which = min(i, len(models) - 1)
                    if len(models) > 1:
                        model = gr.Dropdown([(name, j) for j, name in enumerate(names)], value=which, label="Model")
                    else:
                        model = gr.State(0)
                    plain = side == "B" and len(models) == 1
                    settings = without_guidance(models[0]) if plain else models[which].settings
                    sampling = sampling_controls(models[which], settings)
                    if of_classes and of_text and isinstance(model, gr.Dropdown):  # their defaults differ
                        show = partial(default_values, models)
                        model.change(show, model, sampling, **DIRECT)
                    sides.append([model, *sampling])
            buttons = run_buttons("Compare", "compare-button", "compare-stop-button")
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status("Choose settings for A and B, then compare."), elem_id="compare-status")
            images = gr.HTML(figures.hint("Pairs of images appear here."), elem_id="compared")
            repeating = [repeat_block(f"compare-{side.lower()}", f"Repeat {side}") for side in SIDES]

    def run(*values: Any) -> Generator[tuple[Any, ...], None, None]:
        asked, (classes, each, seed, locked, *rest) = values[: len(prompt)], values[len(prompt) :]
        sides = rest[: NUM_SETTINGS + 1], rest[NUM_SETTINGS + 1 :]
        chosen = [
            (models[index], read_settings(*settings, settings=models[index].settings)) for index, *settings in sides
        ]
        yield from compare(chosen, classes, each, pick_seed(seed, locked), PromptInputs(*asked))

    inputs = [*prompt, classes, each, *seed, *(control for side in sides for control in side)]
    submits = [control.submit for control in prompt if isinstance(control, gr.Textbox)]
    connect(buttons, seed, run, inputs, [status, images, seed.seed, *repeating[0], *repeating[1]], more=submits)


def without_guidance(model: Model) -> SamplingSettings:
    """Return the default settings of a model, without guidance."""
    return model.settings.changed(cfg=1.0 if model.is_text else 0.0)


def default_values(models: Sequence[Model], which: int) -> list[Any]:
    """Return the default values of the sampling controls for a model."""
    return [shown_value(name, models[which].settings) for name in SHOWN]


def compare(
    sides: Sequence[tuple[Model, SamplingSettings]],
    classes: Sequence[int],
    each: int,
    seed: int,
    prompt: PromptInputs = NO_PROMPT,
) -> Iterator[tuple[Any, ...]]:
    """Yield (status, images, seed, commands for A, commands for B) after every scale, first of A, then of B.

    A class-conditional model beside a text-to-image model: the prompt gets as many images as all classes together.
    """
    of_classes = [model for model, _ in sides if not model.is_text]
    if len({model.no_class for model in of_classes}) > 1:
        raise InputError("the two models have different numbers of classes: their images cannot be compared")
    count = each * len(classes) if classes and of_classes else each
    jobs = [
        make_job(model, prompt, count, settings, seed)
        if model.is_text
        else make_job(model, classes, each, settings, seed)
        for model, settings in sides
    ]
    generated: list[list[Image.Image]] = [[] for _ in sides]
    unchanged = (*skip_repeat(), *skip_repeat())
    yield figures.status("waiting for the model …", 0), gr.skip(), seed, *unchanged
    for i, ((model, _), job) in enumerate(zip(sides, jobs, strict=True)):
        for event, generated[i] in watch(model, job):
            if isinstance(event, Scale):
                yield scale_status(event, model, f"{SIDES[i]}: "), pairs(sides, jobs, generated), seed, *unchanged
    count = len(jobs[0].wanted)
    made = [provenance(model, job) for (model, _), job in zip(sides, jobs, strict=True)]
    yield (
        figures.status(f"{count} pair{'s' if count > 1 else ''}"),
        pairs(sides, jobs, generated, made),
        seed,
        *(shown for how, side in zip(made, SIDES, strict=True) for shown in repeat(how, f"{side.lower()}.png")),
    )


def pairs(
    sides: Sequence[tuple[Model, SamplingSettings]],
    jobs: Sequence[Job],
    generated: Sequence[Sequence[Image.Image]],
    made: Sequence[Provenance] | None = None,
) -> str:
    """Show rows of two images, A beside B. With their provenance, they can be downloaded."""
    heads = [f"<div><b>{side}</b> {escape(describe(*chosen))}</div>" for side, chosen in zip(SIDES, sides, strict=True)]
    shown: list[figures.Figure] = []
    # two class-conditional models share the names of the first
    named = {model.is_text: model for model, _ in reversed(sides)}
    for row, seed in enumerate(jobs[0].seeds):
        for i, side in enumerate(SIDES):
            name = named[sides[i][0].is_text].wanted_name(jobs[i].wanted[row])
            image = generated[i][row] if row < len(generated[i]) else None
            file = figures.file_name(f"{side.lower()}-{name}", seed) if made else ""
            info = made[i].of_image(row).to_png_info() if made else None
            shown.append(figures.Figure(image, side, f"{name}, seed {seed}", file, info))
    return f'<div class="ns-grid ns-pair ns-heads">{"".join(heads)}</div>{figures.grid(shown, "pair")}'


def is_list(value: object) -> bool:
    """Return whether a setting is a list that is not empty."""
    return isinstance(value, tuple) and bool(value)


def describe(model: Model, settings: SamplingSettings) -> str:
    """Return ``starter, cfg 4, temperature 1, top-k 900, top-p 0.95``."""
    values = {field.name.replace("_", "-"): getattr(settings, field.name) for field in fields(settings)}
    numbers = [f"{name} {value:g}" for name, value in values.items() if is_number(value)]
    numbers += [f"{name} {' '.join(f'{each:g}' for each in value)}" for name, value in values.items() if is_list(value)]
    return ", ".join([model.name, *numbers, *(name for name, value in values.items() if value is True)])
