"""The tab Edit: part of an image, drawn anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component
from PIL import Image

from nextscale.editing.plan import Box, EditPlan, Mode, check_label, plan_continuation, plan_edit
from nextscale.errors import InputError
from nextscale.imaging.images import to_pil
from nextscale.provenance import EditProvenance, Provenance
from nextscale.sampling.settings import SamplingSettings
from nextscale.web.studio import figures
from nextscale.web.studio.controls import class_picker, read_settings, sampling_controls, seed_controls
from nextscale.web.studio.image_input import given_image, read_upload, sample_one
from nextscale.web.studio.painting import CANVAS, hand_over, paint_over, painting_block, read_paint
from nextscale.web.studio.progress import pick_seed, say_scale, spoken, watch
from nextscale.web.studio.reproduce import provenance, repeat, repeat_block, skip_repeat
from nextscale.web.studio.served_model import Model
from nextscale.web.tickets import Scale, Work

MOST_VARIANTS = 8
IMAGE_FILE, MASK_FILE = "image.png", "mask.png"
"""What commands call the files that they need, and that the page offers for download."""
FIRST_BOX = (0.25, 0.25, 0.75, 0.75)
CONTINUE = "continue"
MODES = [
    ("Inpaint: draw what is marked", "inpaint"),
    ("Outpaint: draw all but what is marked", "outpaint"),
    ("Class: draw what is marked as another class", "class"),
    ("Continue: keep coarse scales, draw fine ones", CONTINUE),
]
PAINT, BOX = "Paint", "Box"


@dataclass(frozen=True)
class EditRequest:
    """All that the controls say."""

    image: Image.Image | None
    """Of the model's size."""
    mode: str
    """See `MODES`."""
    mask: Image.Image | None
    """White is marked; None if nothing was painted, or a box is used."""
    box: Box | None
    label: int
    variants: int
    composite: bool
    leak_free: bool
    softness: float
    scales: int
    """To keep, in mode "continue"."""
    settings: SamplingSettings
    seed: int

    def plan(self, model: Model) -> EditPlan:
        """What is kept of the image.

        Raises:
            InputError: no image, nothing marked, no class for mode "class", or a box without inside.
        """
        if self.image is None:
            raise InputError("there is no image yet: upload one, or draw one")
        tokenizer = model.pipeline.tokenizer
        if self.mode == CONTINUE:
            return plan_continuation(tokenizer, self.image, self.scales)
        if self.mask is None and self.box is None:
            raise InputError("nothing is marked: paint over a part of the image, or use a box")
        mode: Mode = self.mode  # type: ignore[assignment]
        check_label(mode, [self.label], model.no_class)
        return plan_edit(
            tokenizer,
            self.image,
            self.mask,
            box=self.box,
            mode=mode,
            leak_free=self.leak_free,
            softness=self.softness,
        )

    def provenance(self, image: Image.Image) -> EditProvenance:
        """How the command line and Python are told.

        Args:
            image: that of the plan.
        """
        fields: dict[str, Any] = {"image": IMAGE_FILE, "image_sha256": sha256(image)}
        if self.mode == CONTINUE:
            return EditProvenance(**fields, scales_kept=self.scales)
        if self.mask is not None:
            fields |= {"mask": MASK_FILE, "mask_sha256": sha256(self.mask)}
        return EditProvenance(
            **fields,
            box=self.box,
            mode=self.mode,  # type: ignore[arg-type]
            leak_free=self.leak_free,
            softness=float(self.softness),
            composite=self.composite,
        )

    def files(self, image: Image.Image) -> list[figures.Figure]:
        """What the command needs, for download."""
        files = [figures.Figure(image, IMAGE_FILE, file=IMAGE_FILE)]
        if self.mask is not None and self.mode != CONTINUE:
            files.append(figures.Figure(self.mask, MASK_FILE, file=MASK_FILE))
        return files

    def work(self, plan: EditPlan) -> Work:
        seeds = tuple(range(self.seed, self.seed + self.variants))
        return Work((self.label,) * self.variants, seeds, self.settings, plan.edit, watch=True)


class EditTab(NamedTuple):
    """What the page needs of the tab, to hand it an image."""

    corners: list[gr.Slider]
    """What `take` asks for."""
    taken: list[Component]
    """What `take` gives, and the label to draw."""


def edit_tab(model: Model) -> EditTab:
    """Lay out the tab."""
    image = gr.State(None)
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=5, min_width=280):
            given = given_image(model)
            mode = gr.Radio(MODES, value="inpaint", label="Mode", elem_classes="ns-modes")
            with gr.Group(elem_classes="ns-plain") as marking:
                where = gr.Radio([PAINT, BOX], value=PAINT, label="Mark by")
                painting = painting_block()
                paint = gr.Textbox("", visible="hidden", label="Paint")
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
            label = class_picker(model, "Draw it as", several=False)
            variants = gr.Slider(1, MOST_VARIANTS, value=4, step=1, label="Variants", elem_id="edit-variants")
            with gr.Accordion("How new and old join", open=False):
                composite = gr.Checkbox(
                    True, label="Keep the other pixels", info="Lay what is drawn over the image; else all is decoded."
                )
                leak_free = gr.Checkbox(
                    True,
                    label="Hide what is drawn over",
                    info="Nothing of it reaches the new part, not even its colour.",
                )
                softness = gr.Slider(0, 16, value=4, step=1, label="Softness", info="Pixels over which new fades in.")
            sampling = sampling_controls(model)
            seed, locked = seed_controls()
            button = gr.Button("Edit", variant="primary", elem_id="edit")
        with gr.Column(scale=7, min_width=280):
            status = gr.HTML(figures.status("Mark a part, then edit."), elem_id="edit-status")
            slider = gr.ImageSlider(
                type="pil", label="Before and after", visible=False, format="png", elem_classes="ns-slider"
            )
            images = gr.HTML(figures.hint("Variants appear here, coarse to fine."), elem_id="edited")
            repeating = repeat_block("edit")
            files = gr.HTML("", elem_id="edit-files")

    tab = EditTab(corners, [image, painting, box_shown, label])

    def take_upload(content: bytes, *corners: float) -> tuple[Any, ...]:
        return *take(read_upload(content, model), corners), gr.skip()

    def take_new(label: int, *corners: float) -> tuple[Any, ...]:
        return *take(sample_one(model, label), corners), label

    def run(*values: Any) -> Iterator[tuple[Any, ...]]:
        (image, mode, where, paint, *rest) = values
        corners, rest = rest[:4], rest[4:]
        scales, label, variants, composite, leak_free, softness, cfg, top_k, top_p, more_smooth, seed, locked = rest
        request = EditRequest(
            image,
            mode,
            read_paint(paint, model.engine.limits) if where == PAINT else None,
            (corners[0], corners[1], corners[2], corners[3]) if where == BOX else None,
            label,
            variants,
            composite,
            leak_free,
            softness,
            scales,
            read_settings(cfg, top_k, top_p, more_smooth),
            pick_seed(seed, locked),
        )
        yield from edit(model, request)

    given.upload.upload(spoken(take_upload), [given.upload, *corners], tab.taken, api_visibility="private")
    given.draw.click(spoken(take_new), [given.label, *corners], tab.taken, api_visibility="private")
    where.change(
        lambda where: (gr.update(visible=where == PAINT), gr.update(visible=where == BOX)),
        where,
        [painting, boxing],
        api_visibility="private",
        show_progress="hidden",
    )
    mode.change(
        lambda mode: (gr.update(visible=mode != CONTINUE), gr.update(visible=mode == CONTINUE)),
        mode,
        [marking, scales],
        api_visibility="private",
        show_progress="hidden",
    )
    gr.on(
        [corner.change for corner in corners],
        lambda image, *corners: show_box(image, corners),
        [image, *corners],
        box_shown,
        api_visibility="private",
        show_progress="hidden",
    )
    inputs = [
        image,
        mode,
        where,
        paint,
        *corners,
        scales,
        label,
        variants,
        composite,
        leak_free,
        softness,
        *sampling,
        seed,
        locked,
    ]
    gr.on(
        [button.click, seed.submit],
        spoken(run),
        inputs,
        [status, slider, images, seed, *repeating, files],
        js=hand_over(inputs.index(paint)),
        show_progress="hidden",
        api_visibility="private",
    )
    return tab


def take(image: Image.Image, corners: Sequence[float]) -> tuple[Any, ...]:
    """(state, painting, image with the box) for an image to edit in which nothing is marked yet."""
    return image, paint_over(image), show_box(image, corners)


def edit(model: Model, request: EditRequest) -> Iterator[tuple[Any, ...]]:
    """(status, before and after, images, seed, how to repeat it, files for that), as they come.

    Raises:
        InputError: see `EditRequest.plan`.
        Refused: too much is waiting, or it takes too long.
    """
    plan = request.plan(model)
    work = request.work(plan)
    seed, later = request.seed, (*skip_repeat(), gr.skip())
    yield figures.status("waiting for the model …", 0), gr.skip(), gr.skip(), seed, *later
    for event, images in watch(model, work):
        if isinstance(event, Scale):
            yield say_scale(event, model), gr.skip(), show(work, images), seed, *later
            continue
        if request.composite:
            images = to_pil(plan.composite(event.images))
        made = provenance(model, work, request.provenance(plan.image))
        yield (
            figures.status(f"{len(images)} variant{'s' if len(images) > 1 else ''}"),
            gr.update(value=(enlarge(plan.image), enlarge(images[0])), visible=True),
            show(work, images, made),
            seed,
            *repeat(made, "edited.png"),
            files_shown(request.files(plan.image)),
        )


def show(work: Work, images: Sequence[Image.Image], made: Provenance | None = None) -> str:
    """The variants so far; once it is known how they were made, they can be saved."""
    shown = [*images, *(None,) * (len(work.labels) - len(images))]
    return figures.grid(
        [
            figures.Figure(
                image,
                f"variant {i + 1}",
                f"seed {seed}",
                file=figures.file_name("edited", seed) if made else "",
                info=made.of_image(i).to_png_info() if made else None,
            )
            for i, (image, seed) in enumerate(zip(shown, work.seeds, strict=True))
        ]
    )


def files_shown(files: Sequence[figures.Figure]) -> str:
    return f'<p class="ns-lead">The command reads</p>{figures.grid(files, "files")}'


def sha256(image: Image.Image) -> str:
    """Of the PNG that the page offers."""
    return hashlib.sha256(figures.png(image)).hexdigest()


def enlarge(image: Image.Image) -> Image.Image:
    """An image pixel by pixel as large as what is painted on, if it is smaller."""
    factor = max(1, CANVAS // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def show_box(image: Image.Image | None, corners: Sequence[float]) -> str:
    """The image with the box (y0, x0, y1, x1) on it."""
    if image is None:
        return ""
    y0, x0, y1, x1 = corners
    place = f"top:{100 * y0:.0f}%;left:{100 * x0:.0f}%;height:{100 * (y1 - y0):.0f}%;width:{100 * (x1 - x0):.0f}%"
    return (
        f'<figure class="ns-figure ns-boxed">{figures.image(image, "The image, with the box on it")}'
        f'<i style="{place}"></i></figure>'
    )
