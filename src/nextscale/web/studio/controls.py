"""Controls that several tabs have, and what they say."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from nextscale.errors import InputError
from nextscale.sampling.settings import FOR_IMAGES, SamplingSettings
from nextscale.web.studio.served_model import Model

LARGEST_CFG = 10
FIRST_CLASSES = 4
"""Classes that are picked to begin with, spread over all."""
_LOOKS: dict[str, Any] = FOR_IMAGES.record()
LOOKS = FOR_IMAGES
"""What the controls begin with."""


class SamplingControls(NamedTuple):
    """Guidance and filters, in the order in which `read_settings` takes their values."""

    cfg: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    more_smooth: gr.Checkbox


class SeedControls(NamedTuple):
    """A seed, and whether it stays."""

    seed: gr.Number
    locked: gr.Checkbox


def class_picker(model: Model, label: str = "Classes", several: bool = True) -> gr.Dropdown:
    """Names with a search."""
    return gr.Dropdown(
        model.choices,
        value=first_classes(model) if several else 0,
        multiselect=several,
        filterable=True,
        label=label,
        info="Type to search. Without any: classes at random." if several else None,
    )


def first_classes(model: Model) -> list[int]:
    count = min(FIRST_CLASSES, model.no_class)
    return [i * model.no_class // count for i in range(count)]


def sampling_controls(model: Model, cfg: float = LOOKS.cfg) -> SamplingControls:
    """Guidance in sight, the filters folded away."""
    codes = model.pipeline.tokenizer.config.codebook_size
    guidance = gr.Slider(
        0, LARGEST_CFG, value=cfg, step=0.1, label="Guidance (cfg)", info="How much the class counts; 0: not."
    )
    with gr.Accordion("Top-k, top-p, smoothness", open=False):
        top_k = gr.Slider(
            0,
            codes,
            value=min(LOOKS.top_k, codes),
            step=1,
            label="Top-k",
            info="Draw among the k most probable tokens; 0 is all.",
        )
        top_p = gr.Slider(
            0,
            1,
            value=LOOKS.top_p,
            step=0.01,
            label="Top-p",
            info="Draw among the most probable tokens that together reach p; 0 is all.",
        )
        more_smooth = gr.Checkbox(False, label="Smoother", info="Mix codes instead of drawing one.")
    return SamplingControls(guidance, top_k, top_p, more_smooth)


def seed_controls() -> SeedControls:
    with gr.Row(equal_height=True, elem_classes="ns-seed"):
        seed = gr.Number(0, label="Seed", precision=0, min_width=140, scale=2)
        locked = gr.Checkbox(False, label="Keep it", container=False, min_width=90, scale=1)
    return SeedControls(seed, locked)


def read_settings(cfg: float, top_k: float, top_p: float, more_smooth: bool) -> SamplingSettings:
    """The values of `SamplingControls`.

    Raises:
        InputError: one is empty or out of range.
    """
    for name, value in (("cfg", cfg), ("top-k", top_k), ("top-p", top_p)):
        if value is None:
            raise InputError(f"{name} is empty: expected a number")
    return SamplingSettings(cfg=cfg, top_k=int(top_k), top_p=top_p, more_smooth=more_smooth)
