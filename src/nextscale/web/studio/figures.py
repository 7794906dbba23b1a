"""Images and figures as HTML. Every text is escaped, and every image is embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SMALL = 200
"""Images whose shorter side is smaller are enlarged with sharp pixels. The browser scales larger images smoothly."""

LONGEST_NAME = 60
"""Maximum number of characters of a file name before the seed."""

TAKE_IMAGE = "this.href=this.closest('figure').querySelector('img').src"
"""JavaScript of a download link. It saves the displayed image, so that the page contains it only once."""


@dataclass(frozen=True)
class Figure:
    """An image with its caption."""

    image: Image.Image | None
    """None shows a placeholder."""
    name: str
    """First part of the caption."""
    detail: str = ""
    """Second part of the caption, in grey."""
    file: str = ""
    """File name of the download. Empty: no download."""
    info: PngInfo | None = None
    """Metadata of the PNG."""


def file_name(name: str, seed: int) -> str:
    """Return a file name such as ``t-shirt-7.png``. Special characters of the name become hyphens."""
    words = "".join(letter if letter.isalnum() else " " for letter in name).split()
    return f"{'-'.join(words)[:LONGEST_NAME].strip('-') or 'image'}-{seed}.png"


def png(image: Image.Image, info: PngInfo | None = None) -> bytes:
    """Encode an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def data_url(image: Image.Image, info: PngInfo | None = None) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image, info)).decode("ascii")


def image(image: Image.Image, alt: str, url: str = "") -> str:
    """Return an img element. ``url`` is the image's data URL, if it is known already."""
    small = ' class="ns-small"' if min(image.size) < SMALL else ""
    w, h = image.size
    return f'<img{small} src="{url or data_url(image)}" alt="{escape(alt)}" width="{w}" height="{h}">'


def enlargeable(shown: Image.Image, alt: str, url: str = "") -> str:
    """Return an img element in a button that shows it enlarged, see ``enlarge.js``."""
    return (
        f'<button type="button" class="ns-enlarge" aria-label="Enlarge {escape(alt)}">{image(shown, alt, url)}</button>'
    )


def figure(shown: Figure) -> str:
    name, detail, file = escape(shown.name), escape(shown.detail), escape(shown.file)
    element, link = '<div class="ns-empty"></div>', ""
    if shown.image is not None:
        element = enlargeable(shown.image, f"{shown.name} {shown.detail}".strip(), data_url(shown.image, shown.info))
        if shown.file:
            link = f'<a href="#" download="{file}" onclick="{TAKE_IMAGE}" aria-label="Download {file}">PNG</a>'
    return (
        f'<figure class="ns-figure">{element}'
        f"<figcaption><span><b>{name}</b> {detail}</span>{link}</figcaption></figure>"
    )


def grid(figures: Sequence[Figure], kind: str = "") -> str:
    """Return figures side by side, as many as fit.

    Args:
        kind: "pair" shows two in a row on every screen, "files" shows small ones.
    """
    kind = kind or ("single" if len(figures) == 1 else "")
    return f'<div class="ns-grid{f" ns-{kind}" if kind else ""}">{"".join(map(figure, figures))}</div>'


def status(words: str, share: float | None = None) -> str:
    """Return a status line that screen readers announce. With ``share`` in [0, 1], it has a progress bar."""
    bar = f'<div class="ns-bar"><i style="width:{100 * share:.0f}%"></i></div>' if share is not None else ""
    return f'<div class="ns-status" role="status">{escape(words)}{bar}</div>'


def notes(sentences: Sequence[str]) -> str:
    """Return notes below a control; empty if there are none."""
    return "".join(f'<p class="ns-told" role="status">{escape(sentence)}</p>' for sentence in sentences)


def hint(words: str) -> str:
    return f'<p class="ns-hint">{escape(words)}</p>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<table class="ns-table"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    )
