"""Commands and Python code to repeat the shown images, and the provenance for their PNGs."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from nextscale.provenance import EditProvenance, Provenance
from nextscale.web.job_provenance import provenance_of
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job


class RepeatBlock(NamedTuple):
    """The area for commands; see `repeat`."""

    box: gr.Accordion
    command: gr.Code
    python: gr.Code


def repeat_block(name: str, title: str = "Repeat these images") -> RepeatBlock:
    """Add the area, hidden until there are images.

    Args:
        name: prefix of the element ids.
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


def provenance(model: Model, job: Job, edit: EditProvenance | None = None) -> Provenance:
    """Return the provenance of the images of a job."""
    return provenance_of(job, model.pipeline, model.name, model.scales, edit, **model.engine.text)


def repeat(made: Provenance, out: str) -> tuple[Any, ...]:
    """Return the updates of a `RepeatBlock`.

    Args:
        out: the PNG that the command writes. The Python code writes the same file, or OUT-000.png ... for several
            images.
    """
    return gr.update(visible=True), made.command(out), made.python(out.removesuffix(".png"))


def skip_repeat() -> tuple[Any, ...]:
    """Return updates that leave a `RepeatBlock` unchanged."""
    return gr.skip(), gr.skip(), gr.skip()
