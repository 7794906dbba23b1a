"""A studio model with a tiny engine, and the studio of the starter in a headless Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlparse

import pytest
from browser import CHROMIUM, FLAGS, serving

pytest.importorskip("gradio", reason="needs the serve extra")

from nextscale.web.studio.served_model import Model

PATIENCE = 60_000
"""Milliseconds that a busy machine may take for one thing."""


@pytest.fixture
def model(start) -> Model:
    return Model(start())


@pytest.fixture(scope="package")
def address(tmp_path_factory) -> Iterator[str]:
    with serving(log=tmp_path_factory.mktemp("serve") / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. Its event loop runs until the module ends, so tests that start a loop are in other modules."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def greeting() -> str:
    """What the page says when it has generated its first images."""
    return "4 images"


@pytest.fixture
def visit(chromium, address, greeting) -> Iterator[Callable[..., Any]]:
    """``visit(width=375)``: the studio in a new window, which has generated its first images.

    No page may complain or ask another host for anything.
    """
    from playwright.sync_api import expect

    pages: list[Any] = []
    complaints: list[str] = []

    def open_page(width: int = 1280, dark: bool = False) -> Any:
        scheme = "dark" if dark else "light"
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asks_elsewhere(request.url) and complaints.append(request.url))
        page.goto(address)
        expect(page.locator("#generate-status")).to_have_text(greeting)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not complaints


@pytest.fixture
def page(visit) -> Any:
    return visit()


def asks_elsewhere(url: str) -> bool:
    return urlparse(url).scheme not in ("data", "blob") and urlparse(url).hostname != "127.0.0.1"
