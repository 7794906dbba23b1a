"""Controls that several tabs share, and functions to read their values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from nextscale.conditioning.prompts import TextOptions
from nextscale.errors import InputError
from nextscale.io.field_docs import field_docs
from nextscale.sampling.settings import SamplingSettings, numbers
from nextscale.scales.image_shape import ImageShape
from nextscale.web.studio import figures
from nextscale.web.studio.events import DIRECT, QUIET
from nextscale.web.studio.served_model import Model

FIRST_PROMPT = "a fox in the snow"
CFG_OF_TEXT = "Strength of classifier-free guidance, the same at all scales. 1 turns it off."
FIRST_CLASSES = 4
"""Number of initially selected classes, evenly spaced."""


class SliderRange(NamedTuple):
    """Range of a slider for a sampling setting."""

    label: str
    least: float
    most: float | None
    """None: the number of codes, or `MOST_TOP_K` for bits."""
    step: float


SLIDERS = {
    "cfg": SliderRange("Guidance scale (cfg)", 0, 10, 0.1),
    "temperature": SliderRange("Temperature", 0.1, 2, 0.05),
    "top_k": SliderRange("Top-k", 0, None, 1),
    "top_p": SliderRange("Top-p", 0, 1, 0.01),
}
MOST_TOP_K = 1000
CHECKBOXES = {"more_smooth": "Smoother images"}
TICK_IF_TYPED = "(seed) => seed !== null && seed !== ''"
"""JavaScript that returns whether to keep a seed."""


SHOWN = [field.name for field in fields(SamplingSettings) if field.name in (*SLIDERS, *CHECKBOXES)]
"""Names of the settings with a control."""


class SeedControls(NamedTuple):
    """A seed, and whether to keep it for the next images."""

    seed: gr.Number
    locked: gr.Checkbox


def classes_picker(model: Model) -> gr.Dropdown:
    """Add a dropdown of class names for several classes."""
    return gr.Dropdown(
        model.choices,
        value=first_classes(model),
        multiselect=True,
        filterable=True,
        label="Classes",
        info="Type to search. If none is selected, classes are random.",
    )


def class_picker(model: Model, label: str, value: int) -> gr.Dropdown:
    """Add a dropdown of class names for one class."""
    return gr.Dropdown(model.choices, value=value, filterable=True, label=label, min_width=120)


def first_classes(model: Model) -> list[int]:
    count = min(FIRST_CLASSES, model.no_class)
    return [i * model.no_class // count for i in range(count)]


def sampling_controls(model: Model, settings: SamplingSettings | None = None) -> list[Component]:
    """Add a control for each of the `SHOWN` settings. All but the first are in a closed accordion.

    Args:
        settings: the initial values; None means those of the model.
    """
    settings = settings or model.settings
    first, *others = SHOWN
    controls: list[Component] = [_control(model, first, settings)]
    with gr.Accordion("More sampling settings", open=False):
        return [*controls, *(_control(model, name, settings) for name in others)]


def _control(model: Model, name: str, settings: SamplingSettings) -> Component:
    value, info = shown_value(name, settings), field_docs(SamplingSettings)[name]
    if name in CHECKBOXES:
        return gr.Checkbox(value, label=CHECKBOXES[name], info=info)
    label, least, most, step = SLIDERS[name]
    if most is None:
        most = MOST_TOP_K if model.is_text else model.pipeline.tokenizer.config.codebook_size
    info = CFG_OF_TEXT if model.is_text and name == "cfg" else info
    return gr.Slider(least, most, value=min(value, most), step=step, label=label, info=info)


def seed_controls() -> SeedControls:
    """Add a field for the seed and a checkbox to keep it. Typing a seed ticks the checkbox; emptying the field clears
    it."""
    with gr.Row(equal_height=True, elem_classes="ns-seed"):
        seed = gr.Number(label="Seed", placeholder="random", precision=0, min_width=140, scale=2)
        locked = gr.Checkbox(False, label="Keep it", container=False, min_width=90, scale=1)
    gr.on(None, None, None, seed, js="() => null", **QUIET)  # Gradio shows 0
    seed.input(None, seed, locked, js=TICK_IF_TYPED, **QUIET)
    return SeedControls(seed, locked)


def shown_value(name: str, settings: SamplingSettings) -> Any:
    """Return the value of a setting that a control shows: one with a number for each scale as that of the last."""
    return numbers(getattr(settings, name))[-1]


def read_settings(*values: Any, settings: SamplingSettings | None = None) -> SamplingSettings:
    """Return the settings from the values of `sampling_controls`.

    Args:
        settings: values of the settings without a control. Those with a number for each scale stay if their control
            shows what it showed at first.

    Raises:
        InputError: a control is empty or out of range.
    """
    named = dict(zip(SHOWN, values, strict=True))
    for name, value in named.items():
        if value is None:
            raise InputError(f"{name} is empty: expected a number")
        if name in SLIDERS and SLIDERS[name].step == 1:
            named[name] = int(value)
    settings = settings or SamplingSettings()
    changed = {name: value for name, value in named.items() if value != shown_value(name, settings)}
    return settings.changed(**changed)


class PromptControls(NamedTuple):
    """What to generate with a text-to-image model; see `PromptInputs`."""

    prompt: gr.Textbox
    aspect: Component
    negative: gr.Textbox


@dataclass(frozen=True)
class PromptInputs:
    """The values of `PromptControls`."""

    prompt: str = ""
    aspect: str = ""
    negative: str = ""

    @property
    def text(self) -> TextOptions:
        return TextOptions(negative_prompt=self.negative.strip())

    @property
    def shape(self) -> ImageShape:
        return ImageShape(aspect=self.aspect or "")


def prompt_box(model: Model, label: str, value: str = "", info: str | None = None) -> gr.Textbox:
    """Add a field for a prompt of several lines, with notes below it on words that the model does not know."""
    prompt = gr.Textbox(value, label=label, info=info, lines=2, max_lines=8, placeholder="Describe the image")
    if model.pipeline.words is not None:
        notes = gr.HTML(notes_html(model, value), elem_classes="ns-notes")
        left = [prompt.blur, prompt.submit]
        gr.on(left, partial(notes_html, model), prompt, notes, **DIRECT)
    return prompt


def notes_html(model: Model, prompt: str) -> str:
    """Return the notes below a prompt."""
    try:
        return figures.notes(model.notes(prompt or ""))
    except InputError:  # not valid Unicode, which is said when images are generated
        return ""


def negative_box() -> gr.Textbox:
    info = "What the images should not show."
    return gr.Textbox("", label="Negative prompt", info=info, lines=1, max_lines=4)


def prompt_controls(model: Model) -> PromptControls:
    """Add a field for the prompt, an aspect picker if the model has several aspects, and a field for a negative
    prompt."""
    prompt = prompt_box(model, "Prompt", FIRST_PROMPT)
    aspect: Component = gr.State("")
    if model.has_aspects:
        aspect = gr.Dropdown(model.aspects, value="", label="Aspect", filterable=False)
    return PromptControls(prompt, aspect, negative_box())


NUM_SETTINGS = len(SHOWN)
"""Number of values that `read_settings` needs."""
