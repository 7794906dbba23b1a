"""The studio in a headless Chromium, served by ``nextscale serve``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from browser import CHROMIUM, FLAGS, serving
from PIL import Image

pytest.importorskip("playwright", reason="needs playwright, of the dev extra")

from playwright.sync_api import Page, expect, sync_playwright

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the path"),
]
PATIENCE = 60_000
"""Milliseconds that a busy machine may take for one thing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with serving(log=tmp_path_factory.mktemp("serve") / "log.txt") as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address) -> Iterator[Page]:
    """The studio, which has drawn its greeting. It may neither complain nor ask another host for anything."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asks_elsewhere(request.url) and complaints.append(request.url))
    page.goto(address)
    expect(page.locator("#generate-status")).to_have_text("4 images")
    yield page
    page.close()
    assert not complaints


def asks_elsewhere(url: str) -> bool:
    return urlparse(url).scheme not in ("data", "blob") and urlparse(url).hostname != "127.0.0.1"


def choose(page: Page, label: str, words: str) -> None:
    """Pick what a search in a drop-down finds."""
    box = page.get_by_label(label).locator("visible=true").first
    box.click()
    box.fill(words)
    page.get_by_role("option", name=words).first.click()


def save(page: Page, link: str, path: Path) -> Image.Image:
    """Follow a link to download."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).locator("visible=true").click()
    download.value.save_as(path)
    return Image.open(path)


def repeat(command: str, folder: Path, image: str) -> Image.Image:
    """Run a command that the page shows; gives the image that it writes."""
    words = shlex.split(command.replace("\n", " "))
    assert words[0] == "nextscale"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, check=True, capture_output=True)
    return Image.open(folder / image)


def code(page: Page, name: str) -> str:
    """What a block of code shows, as it is."""
    return "\n".join(page.locator(f"{name} .cm-line").all_inner_texts())


def test_a_image_drawn_edited_and_repeated(page, tmp_path):
    # ---- draw, and see it appear ----
    page.get_by_label("Clear").or_(page.locator("[title=Clear], [aria-label='Remove All']")).first.click()
    choose(page, "Classes", "hat")
    page.keyboard.press("Escape")
    page.evaluate(NOTE_STATUS)
    page.get_by_role("button", name="Generate", exact=True).press("Enter")
    expect(page.locator("#generate-status")).to_have_text("1 image")
    seen = page.evaluate("window.seen")
    scales = [said for said in seen if re.fullmatch(r"scale \d of 6 \(\d × \d\)", said)]
    assert len(scales) >= 3 and scales == sorted(scales)
    seed = page.get_by_label("Seed", exact=True).locator("visible=true").input_value()
    drawn = save(page, f"Download hat-{seed}.png", tmp_path / "drawn.png")
    repeated = repeat(code(page, "#generate-command"), tmp_path, "image.png")
    assert drawn.size == (64, 64) and drawn.tobytes() == repeated.tobytes()
    assert (
        repeat("nextscale sample --like drawn.png --out again.png", tmp_path, "again.png").tobytes() == drawn.tobytes()
    )

    # ---- paint, and edit ----
    page.get_by_role("button", name="Open in Edit").click()
    canvas = page.locator("#painting canvas").first
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 20, steps=4)
    page.mouse.up()
    page.locator("#edit-variants input[type=number]").fill("1")
    page.locator("#edit-button").click()
    expect(page.locator("#edit-status")).to_have_text("1 variant")
    edited = page.locator("#edited a").get_attribute("download")
    after = save(page, f"Download {edited}", tmp_path / "after.png")
    before = save(page, "Download image.png", tmp_path / "image.png")
    mask = save(page, "Download mask.png", tmp_path / "mask.png")
    assert before.tobytes() == drawn.tobytes() != after.tobytes() and mask.getextrema() == (0, 255)
    repeated = repeat(code(page, "#edit-command"), tmp_path, "edited.png")
    assert repeated.tobytes() == after.tobytes()


NOTE_STATUS = """() => {
  window.seen = [];
  const place = document.querySelector('#generate-status');
  new MutationObserver(() => {
    const said = place.innerText.trim();
    if (window.seen.at(-1) !== said) window.seen.push(said);
  }).observe(place, {childList: true, subtree: true, characterData: true});
}"""


def test_a_mistake_is_a_sentence_on_the_page(page):
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-button").click()
    expect(page.get_by_text("there is no image yet")).to_be_visible()


def test_inside_and_compare(page, tmp_path):
    page.get_by_role("button", name="Open in Inspect").click()
    expect(page.locator("#pyramid .ns-scale h3")).to_have_count(6)
    expect(page.locator("#codes table tbody tr")).to_have_count(6)
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-button").click()
    expect(page.locator("#compare-status")).to_have_text("4 pairs")
    expect(page.locator("#compared img")).to_have_count(8)
    expect(page.locator("#compared a")).to_have_count(8)
    file = page.locator("#compared a").last.get_attribute("download")
    saved = save(page, f"Download {file}", tmp_path / "b.png")
    assert repeat("nextscale sample --like b.png --out c.png", tmp_path, "c.png").tobytes() == saved.tobytes()


def test_buttons_that_take_a_class_away_say_which(page):
    expect(page.get_by_role("button", name="Remove", exact=False).locator("visible=true")).to_have_count(4)
    page.get_by_role("button", name="Remove dress (0)").locator("visible=true").press("Enter")
    expect(page.get_by_role("button", name="Remove dress (0)").locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("button", name="Remove longsleeve (2)").locator("visible=true")).to_have_count(1)


@pytest.mark.parametrize(
    ("control", "typed", "said"),
    [
        ("number input for Guidance scale (cfg)", "99999", "Guidance scale (cfg) must be from 0 to 10, not 99999"),
        ("number input for Guidance scale (cfg)", "", "Guidance scale (cfg) is empty: expected a number from 0 to 10"),
        ("Seed", "1.5", "Seed must be an integer, not 1.5"),
    ],
)
def test_a_number_out_of_range_stays_and_is_refused(page, control, typed, said):
    field = page.get_by_label(control, exact=True).locator("visible=true")
    field.fill(typed)
    page.locator("#generate-button").click()
    expect(page.get_by_text(said)).to_be_visible()
    expect(field).to_have_value(typed)


@pytest.mark.parametrize("tab", ["Generate", "Edit", "Inspect", "Compare"])
def test_a_phone_needs_no_sideways_scrolling(page, tab):
    page.set_viewport_size({"width": 375, "height": 800})
    page.get_by_role("tab", name=tab).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
