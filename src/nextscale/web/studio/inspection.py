"""The Inspect tab: the token maps of an image at each scale, and its codes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import gradio as gr
from PIL import Image
from torch import Tensor

from nextscale.analysis.inspection import ScaleView, fit, heat_images, inspect, token_image
from nextscale.tokenizer.usage import CodeUsage
from nextscale.web.studio import figures
from nextscale.web.studio.events import QUIET
from nextscale.web.studio.image_input import given_image, read_whole, sample_one
from nextscale.web.studio.progress import shown_errors
from nextscale.web.studio.running import announced
from nextscale.web.studio.served_model import Model

ENCODING = "encoding the image …"
MOST_USED = 12
"""Number of most frequent codes that are listed."""


class InspectTab(NamedTuple):
    """The outputs of `inspect_image`, in order, and the status."""

    original: gr.HTML
    pyramid: gr.HTML
    codes: gr.HTML
    status: gr.HTML


def inspect_tab(model: Model) -> InspectTab:
    """Lay out the tab."""
    with gr.Row(elem_classes="ns-tab"):
        with gr.Column(scale=4, min_width=280):
            given = given_image(model)
            original = gr.HTML("")
        with gr.Column(scale=8, min_width=280):
            status = gr.HTML(figures.status(""), elem_id="inspect-status")
            pyramid = gr.HTML(figures.hint("Upload or generate an image to see its token maps."), elem_id="pyramid")
            codes = gr.HTML("", elem_id="codes")
    tab = InspectTab(original, pyramid, codes, status)

    def inspect_upload(content: bytes) -> tuple[str, ...]:
        given = read_whole(content, model)
        return *inspect_image(given.shown(model, "crop"), model), figures.status(given.describe(model))

    def inspect_new(wanted: int | str) -> tuple[str, ...]:
        return *inspect_image(sample_one(model, wanted), model), figures.status("")

    for event, function, given_by in (
        (given.upload.upload, inspect_upload, given.upload),
        (given.generate.click, inspect_new, given.wanted),
    ):
        steps = announced(function, 3, ENCODING)
        event(shown_errors(steps), given_by, [*tab], **QUIET)
    return tab


def inspect_image(image: Image.Image, model: Model) -> tuple[str, str, str]:
    """Return (the image, its pyramid, its codes) as HTML.

    Raises:
        InputError: the image is too narrow.
    """
    tokenizer, schedule = model.pipeline.tokenizer, model.schedule_for(image)
    with model.pipeline.precision.autocast(model.pipeline.device):
        views = inspect(image, tokenizer, schedule)
    original = figures.Figure(
        fit(image, tokenizer, schedule), "The image", f"reconstructed from all tokens: {views[-1].psnr:.1f} dB"
    )
    if tokenizer.config.quantizer == "bits":
        shown = bits(views)
    else:
        usage = CodeUsage(schedule, tokenizer.config.codebook_size)
        usage.add([view.tokens.flatten()[None] for view in views])
        shown = codes(usage, model.colours)
    return figures.grid([original]), pyramid(views, model.colours), shown


def pyramid(views: Sequence[ScaleView], colours: Tensor) -> str:
    """Show a row per scale: its token map, the magnitude of its gain, the image so far."""
    heats = heat_images([view.gain for view in views])
    rows = [pyramid_row(view, heat, colours) for view, heat in zip(views, heats, strict=True)]
    w, h = views[-1].image.size
    titles = ("token map", "gain", "image so far")
    head = "<div></div>" + "".join(f"<div>{title}</div>" for title in titles)
    return (
        '<h2 class="ns-heading">Scales</h2>'
        f'<div class="ns-pyramid" style="--aspect:{w}/{h}"><div class="ns-scale ns-scale-head">{head}</div>'
        f"{''.join(rows)}</div>"
    )


def pyramid_row(view: ScaleView, heat: Image.Image, colours: Tensor) -> str:
    h, w = view.size
    size, count = f"{h} × {w}", f"{h * w} token{'s' if h * w > 1 else ''}"
    shown = (
        (token_image(view.tokens, colours), f"token map of scale {size}"),
        (heat, f"magnitude of the gain of scale {size} at each position"),
        (view.image, f"image after scale {size}"),
    )
    cells = "".join(f'<figure class="ns-figure">{figures.enlargeable(image, alt)}</figure>' for image, alt in shown)
    return (
        f'<div class="ns-scale"><div><h3>{escape(size)}</h3><p>{count}</p><p>{view.psnr:.1f} dB</p></div>{cells}</div>'
    )


def bits(views: Sequence[ScaleView]) -> str:
    """Show for each scale how many bits it has, and how many of its tokens differ."""
    rows: list[tuple[str, ...]] = []
    for view in views:
        tokens, (h, w) = view.tokens.flatten(0, 1), view.size
        share = tokens.double().mean().item()
        rows.append(
            (f"{h} × {w}", f"{h * w:,}", f"{tokens.numel():,}", f"{len(tokens.unique(dim=0)):,}", f"{share:.0%}")
        )
    total = sum(view.tokens.numel() for view in views)
    head = ("scale", "tokens", "bits", "distinct", "ones")
    each = f"{total:,} bits in all, {views[0].tokens.shape[-1]} for each token. "
    note = "Similar tokens have similar colours: red, green and blue are three projections of the bits."
    return figures.table("Bits of this image", head, rows) + f'<p class="ns-lead">{each}{note}</p>'


def codes(usage: CodeUsage, colours: Tensor) -> str:
    """Show how many codes each scale uses, their perplexity, and the most frequent codes."""
    rows = [
        (f"{h} × {w}", f"{int(seen.sum()):,}", f"{int((seen > 0).sum()):,}", f"{perplexity:.1f}")
        for (h, w), seen, perplexity in zip(usage.sizes, usage.counts, usage.perplexity().tolist(), strict=True)
    ]
    total = usage.counts.sum(dim=0)
    most = total.topk(min(MOST_USED, int((total > 0).sum())))
    items = "".join(
        f'<li><i style="background:rgb({",".join(map(str, colours[code].tolist()))})"></i>{code} · {count}×</li>'
        for count, code in zip(most.values.tolist(), most.indices.tolist(), strict=True)
    )
    return (
        figures.table("Codes of this image", ("scale", "tokens", "distinct codes", "perplexity"), rows)
        + f'<p class="ns-lead">{len(total) - usage.unused():,} of {len(total):,} codes are used. Most frequent:</p>'
        + f'<ul class="ns-codes">{items}</ul>'
    )
