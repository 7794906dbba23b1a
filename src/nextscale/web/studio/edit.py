"""The Edit tab: regenerate a part of an image."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import gradio as gr
from gradio.components import Component
from PIL import Image

from nextscale.editing.placement import Rectangle
from nextscale.editing.spec import EditSpec, Fit
from nextscale.io.field_docs import field_docs
from nextscale.provenance import Provenance
from nextscale.web.studio import figures
from nextscale.web.studio.controls import (
    NUM_SETTINGS,
    PromptInputs,
    class_picker,
    negative_box,
    prompt_box,
    read_settings,
    sampling_controls,
    seed_controls,
)
from nextscale.web.studio.edit_inputs import CONTINUE, EditInputs
from nextscale.web.studio.events import DIRECT, QUIET
from nextscale.web.studio.image_input import InputImage, given_image, read_whole, sample_one
from nextscale.web.studio.painting import CANVAS, EMPTY, mask_to_input, paint_over, painting_block, read_paint
from nextscale.web.studio.progress import pick_seed, scale_status, shown_errors, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.running import announced, connect, run_buttons
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Job, Scale

MOST_VARIANTS = 8
FIRST_BOX = (0.25, 0.25, 0.75, 0.75)
MODES = [
    ("Inpaint: generate the selected region", "inpaint"),
    ("Outpaint: generate everything else", "outpaint"),
    ("Class: generate the region as another class", "class"),
    ("Continue: keep coarse scales, generate fine ones", CONTINUE),
]
BRUSH, BOX = "Brush", "Box"
IDLE = "Select a region, then generate variants."
DEFAULTS = EditSpec()
"""The initial values, which are those of the command line."""


class EditTab(NamedTuple):
    """What the page needs to send an image to the tab."""

    take: Callable[..., tuple[Any, ...]]
    """Function of an image and the inputs. Returns the outputs."""
    inputs: list[Component]
    outputs: list[Component]
    wanted: gr.Dropdown | gr.Textbox
    """The class or the prompt of the image."""


def edit_tab(model: Model) -> EditTab:
    """Lay out the tab."""
    given_state = gr.State(None)  # an InputImage
    docs = field_docs(EditSpec)
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=5, min_width=280):
            given = given_image(model)
            # Outside of the groups: when a group becomes visible, so do the controls in it.
            paint = gr.Textbox("", visible="hidden", label="Paint")
            fit = gr.Radio(list(get_args(Fit)), value=DEFAULTS.fit, label="Fit", info=docs["fit"])
            modes = [choice for choice in MODES if not (model.is_text and choice[1] == "class")]
            mode = gr.Radio(modes, value=DEFAULTS.mode, label="Mode", elem_classes="ns-modes")
            with gr.Group(elem_classes="ns-plain") as marking:
                where = gr.Radio([BRUSH, BOX], value=BRUSH, label="Select the region with")
                painting = painting_block()
                with gr.Group(visible=False, elem_classes="ns-plain") as boxing:
                    box_shown = gr.HTML("")
                    with gr.Row(elem_classes="ns-corners"):
                        corners = [
                            gr.Slider(0, 1, value=value, step=0.01, label=name, min_width=130)
                            for name, value in zip(("Top", "Left", "Bottom", "Right"), FIRST_BOX, strict=True)
                        ]
            scales = gr.Slider(
                1,
                max(2, model.num_scales - 1),
                value=max(1, model.num_scales // 2),
                step=1,
                label="Scales to keep",
                visible=False,
            )
            wanted: gr.Dropdown | gr.Textbox
            negative: Component = gr.State("")
            if model.is_text:
                wanted = prompt_box(
                    model, "Prompt for the generated part", info="Without a prompt, the image alone decides."
                )
                negative = negative_box()
            else:
                wanted = class_picker(model, "Class of the generated part", model.no_class)
            variants = gr.Slider(1, MOST_VARIANTS, value=1, step=1, label="Variants", elem_id="edit-variants")
            with gr.Accordion("Blending", open=False) as blending:
                composite = gr.Checkbox(DEFAULTS.composite, label="Keep all other pixels", info=docs["composite"])
                leak_free = gr.Checkbox(
                    DEFAULTS.leak_free, label="Hide the region from the model", info=docs["leak_free"]
                )
                softness = gr.Slider(0, 16, value=DEFAULTS.softness, step=1, label="Softness", info=docs["softness"])
            sampling = sampling_controls(model)
            seed = seed_controls()
            buttons = run_buttons("Generate variants", "edit-button", "edit-stop-button")
        with gr.Column(scale=7, min_width=280):
            status = gr.HTML(figures.status(IDLE), elem_id="edit-status")
            slider = gr.ImageSlider(
                type="pil",
                label="Before and after",
                visible=False,
                format="png",
                buttons=["fullscreen"],  # the links below save the images at their own size, with their metadata
                elem_classes="ns-slider",
            )
            images = gr.HTML(figures.hint("Variants appear here, coarse to fine."), elem_id="edited")
            repeating = repeat_block("edit")
            files = gr.HTML("", elem_id="edit-files")

    def show_given(given: InputImage | None, fit: Fit, *corners: float) -> tuple[Any, ...]:
        """Return (painting, image with the box, status)."""
        if given is None:
            return EMPTY, "", figures.status(IDLE)
        _, *shown = take(given.shown(model, fit), corners)
        return *shown, figures.status(f"{given.describe(model, fit)} {IDLE}".strip())

    def take_image(image: Image.Image, *inputs: Any) -> tuple[Any, ...]:
        given = InputImage.of(image, model)
        return given, *show_given(given, *inputs)

    def take_upload(content: bytes, *inputs: Any) -> tuple[Any, ...]:
        given = read_whole(content, model)
        return given, *show_given(given, *inputs)

    def take_new(wanted: int | str, *inputs: Any) -> tuple[Any, ...]:
        given, *shown = take_image(sample_one(model, wanted), *inputs)
        return given, wanted, *shown

    placing = [fit, *corners]
    taken = [given_state, painting, box_shown, status]

    def run(*values: Any) -> Generator[tuple[Any, ...], None, None]:
        (given, fit, mode, where, paint, *rest) = values
        corners, rest = rest[:4], rest[4:]
        (scales, wanted, negative, variants, composite, leak_free, softness, *rest) = rest
        settings, (seed, locked) = rest[:NUM_SETTINGS], rest[NUM_SETTINGS:]
        mask = None
        if mode == CONTINUE:
            spec = EditSpec(scales_kept=scales, fit=fit)
        else:
            box = (corners[0], corners[1], corners[2], corners[3]) if where == BOX else None
            spec = EditSpec(mode=mode, box=box, leak_free=leak_free, softness=softness, composite=composite, fit=fit)
            mask = read_paint(paint, model.engine.limits) if where == BRUSH else None
        chosen = read_settings(*settings, settings=model.settings)
        image, schedule = (given.shown(model, fit), given.schedule) if given else (None, None)
        text = PromptInputs(negative=negative).text
        seed = pick_seed(seed, locked)
        yield from edit(model, EditInputs(spec, image, mask, wanted, variants, chosen, seed, schedule, text))

    given.upload.upload(
        shown_errors(take_upload),
        [given.upload, *placing],
        taken,
        **QUIET,
    )
    given.generate.click(
        shown_errors(announced(take_new, len(taken), "generating an image …", IDLE)),
        [given.wanted, *placing],
        [given_state, wanted, painting, box_shown, status],
        **QUIET,
    )
    gr.on(
        [mode.change, where.change],
        visibility,
        [mode, where],
        [marking, painting, boxing, blending, scales],
        **DIRECT,
    )
    composite.change(
        lambda pasted: gr.update(interactive=pasted),  # without pasting there is nothing to blend
        composite,
        softness,
        **DIRECT,
    )
    fit.change(
        show_given,
        [given_state, *placing],
        [painting, box_shown, status],
        **DIRECT,
    )
    gr.on(
        [corner.change for corner in corners],
        lambda given, fit, *corners: show_box(given and given.shown(model, fit), corners),
        [given_state, *placing],
        box_shown,
        **DIRECT,
    )
    edited = [given_state, fit, mode, where, paint, *corners, scales, wanted, negative, variants]
    inputs = [*edited, composite, leak_free, softness, *sampling, *seed]
    outputs = [status, slider, images, seed.seed, *repeating, files]
    connect(buttons, seed, run, inputs, outputs, js=mask_to_input(inputs.index(paint)))
    return EditTab(take_image, placing, taken, wanted)


def visibility(mode: str, where: str) -> list[dict[str, Any]]:
    """Return updates that show the controls of a mode: marking, painting, box, blending, scales to keep.

    Each part of the marking is named, because showing a group shows what it contains.
    """
    marked = mode != CONTINUE
    shown = (marked, marked and where == BRUSH, marked and where == BOX, marked, not marked)
    return [gr.update(visible=visible) for visible in shown]


def take(image: Image.Image, corners: Sequence[float]) -> tuple[Any, ...]:
    """Return (state, painting, image with the box) for a new image to edit."""
    return image, paint_over(image), show_box(image, corners)


def edit(model: Model, inputs: EditInputs) -> Iterator[tuple[Any, ...]]:
    """Yield (status, before and after, images, seed, commands to repeat it, their files) after every scale.

    Raises:
        InputError: see `EditInputs.plan`.
        Refused: the queue is full, or the time limit has passed.
    """
    plan = inputs.plan(model)
    job, content = inputs.job(plan, model), plan.placement.content
    given = inputs.image if inputs.spec.fit == "pad" and inputs.image else plan.image
    seed, unchanged = inputs.seed, (*skip_repeat(), gr.skip())
    yield figures.status("waiting for the model …", 0), gr.skip(), gr.skip(), seed, *unchanged
    for event, images in watch(model, job):
        if isinstance(event, Scale):
            images = [without_borders(image, content) for image in images]
            yield scale_status(event, model), gr.skip(), show(job, images), seed, *unchanged
            continue
        images, before = plan.finish(event.images), without_borders(plan.image, content)
        made = provenance(model, job, inputs.provenance(given))
        yield (
            figures.status(f"{len(images)} variant{'s' if len(images) > 1 else ''}"),
            gr.update(value=(enlarge(before), enlarge(images[0])), visible=True),
            show(job, images, made),
            seed,
            *repeat(made, "edited.png"),
            files_shown(inputs.files(given)),
        )


def show(job: Job, images: Sequence[Image.Image], made: Provenance | None = None) -> str:
    """Show the variants so far. With their provenance, they can be downloaded."""
    shown = [*images, *(None,) * (len(job.wanted) - len(images))]
    return figures.grid(
        [
            figures.Figure(
                image,
                f"variant {i + 1}",
                f"seed {seed}",
                file=figures.file_name("edited", seed) if made else "",
                info=made.of_image(i).to_png_info() if made else None,
            )
            for i, (image, seed) in enumerate(zip(shown, job.seeds, strict=True))
        ]
    )


def files_shown(files: Sequence[figures.Figure]) -> str:
    return f'<p class="ns-lead">Input files of the command</p>{figures.grid(files, "files")}'


def without_borders(image: Image.Image, content: Rectangle) -> Image.Image:
    """Cut off the borders of a padded image."""
    return image.crop((content.left, content.top, content.right, content.bottom))


def enlarge(image: Image.Image) -> Image.Image:
    """Enlarge a small image by an integer factor, to about the size of the painting canvas."""
    factor = max(1, CANVAS // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def show_box(image: Image.Image | None, corners: Sequence[float]) -> str:
    """Show the image with the box (y0, x0, y1, x1) on it."""
    if image is None:
        return ""
    y0, x0, y1, x1 = corners
    place = f"top:{100 * y0:.0f}%;left:{100 * x0:.0f}%;height:{100 * (y1 - y0):.0f}%;width:{100 * (x1 - x0):.0f}%"
    return (
        f'<figure class="ns-figure ns-boxed">{figures.image(image, "The image with the box")}'
        f'<i style="{place}"></i></figure>'
    )
