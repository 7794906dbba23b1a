"""Take the screenshots docs/studio-*.png: every tab of the studio, light and dark, at desktop and phone width.

    python docs/figures/screenshots.py

Needs the dev extra and a Chromium on the path.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

DOCS = Path(__file__).parents[1]
sys.path.insert(0, str(DOCS.parent / "tests"))

from browser import CHROMIUM, FLAGS, serving  # noqa: E402

SCHEMES = {"": "light", "-dark": "dark"}
WIDTHS = {"": 1280, "-phone": 390}
PATIENCE = 120_000
"""Milliseconds."""
COLOURS = 256


def main() -> None:
    expect.set_options(timeout=PATIENCE)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(log=Path(folder) / "log.txt") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for (dark, scheme), (phone, width) in itertools.product(SCHEMES.items(), WIDTHS.items()):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            visit(page, dark + phone)
            page.close()
        browser.close()


def visit(page: Page, suffix: str) -> None:
    """Use every tab once and take a screenshot of it."""
    expect(page.locator("#generate-status")).to_have_text("4 images")
    type_seed(page, 11)
    page.locator("#generate-button").click()
    expect(page.locator("#generated")).to_contain_text("seed 11")
    expect(page.locator("#generate-status")).to_have_text("4 images")
    shoot(page, f"studio-generate{suffix}.png")

    page.get_by_role("button", name="Open in Edit").click()
    canvas = page.locator("#painting canvas")
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    assert place is not None
    x, y, w, h = place["x"], place["y"], place["width"], place["height"]
    page.mouse.move(x + 0.35 * w, y + 0.55 * h)
    page.mouse.down()
    for across, down in ((0.65, 0.55), (0.65, 0.7), (0.35, 0.7), (0.35, 0.85), (0.65, 0.85)):
        page.mouse.move(x + across * w, y + down * h, steps=6)
    page.mouse.up()
    page.get_by_label("number input for Variants").locator("visible=true").fill("4")
    type_seed(page, 3)
    page.locator("#edit-button").click()
    expect(page.locator("#edit-status")).to_have_text("4 variants")
    page.wait_for_timeout(1000)
    shoot(page, f"studio-edit{suffix}.png")

    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Open in Inspect").click()
    expect(page.locator("#codes table")).to_be_visible()
    shoot(page, f"studio-inspect{suffix}.png")

    page.get_by_role("tab", name="Compare").click()
    type_seed(page, 11)
    page.locator("#compare-button").click()
    expect(page.locator("#compare-status")).to_have_text("4 pairs")
    shoot(page, f"studio-compare{suffix}.png")


def type_seed(page: Page, seed: int) -> None:
    page.get_by_label("Seed", exact=True).locator("visible=true").fill(str(seed))


def shoot(page: Page, name: str) -> None:
    """Save the whole page with a reduced palette."""
    page.wait_for_timeout(500)
    with Image.open(io.BytesIO(page.screenshot(full_page=True))) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(DOCS / name, optimize=True)
    print(name, (DOCS / name).stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
