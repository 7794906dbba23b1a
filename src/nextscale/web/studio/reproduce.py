"""How results came about: the command and the Python that repeat them, and what their PNGs say of themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from nextscale.provenance import EditProvenance, Provenance
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Work
from nextscale.web.work_provenance import provenance_of


class RepeatBlock(NamedTuple):
    """Where commands are shown; `repeat` fills it."""

    box: gr.Accordion
    command: gr.Code
    python: gr.Code


def repeat_block(name: str, title: str = "Repeat this") -> RepeatBlock:
    """Lay it out, unseen until there is something to repeat.

    Args:
        name: for ids.
    """
    with gr.Accordion(title, open=True, visible=False, elem_classes="ns-repeat") as box:
        command = gr.Code(
            language="shell",
            label="Command line",
            interactive=False,
            wrap_lines=True,
            show_line_numbers=False,
            lines=1,
            buttons=["copy"],
            elem_id=f"{name}-command",
        )
        python = gr.Code(
            language="python",
            label="Python",
            interactive=False,
            wrap_lines=True,
            show_line_numbers=False,
            lines=1,
            buttons=["copy"],
            elem_id=f"{name}-python",
        )
    return RepeatBlock(box, command, python)


def provenance(model: Model, work: Work, edit: EditProvenance | None = None) -> Provenance:
    """How the images of a work are made."""
    return provenance_of(work, model.pipeline, model.name, model.scales, edit)


def repeat(made: Provenance, out: str) -> tuple[Any, ...]:
    """What `RepeatBlock` is to show.

    Args:
        out: the PNG that the command writes; the Python writes it, too, or OUT-000.png ... for several.
    """
    return gr.update(visible=True), made.command(out), made.python(out.removesuffix(".png"))


def skip_repeat() -> tuple[Any, ...]:
    """What leaves a `RepeatBlock` as it is."""
    return gr.skip(), gr.skip(), gr.skip()
