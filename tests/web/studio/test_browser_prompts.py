"""The studio of a text-to-image model in a headless Chromium, with a class-conditional model to compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, NOTE_STATUS, code, open_all, repeat, save, serving, violations

pytest.importorskip("playwright", reason="needs playwright, of the dev extra")
pytest.importorskip("transformers", reason="needs the text extra")

from playwright.sync_api import Page, expect
from tiny_prompts import save_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the path"),
]
PROMPT = "two red cars on a 'wet' street; at night"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder)
    return folder / "model"


@pytest.fixture(scope="module")
def address(model, tmp_path_factory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with serving("--model", str(model), "--compare", "starter", log=log) as address:
        yield address


@pytest.fixture(scope="module")
def greeting() -> str:
    return "1 image"


def field(page: Page, label: str, exact: bool = True) -> Any:
    return page.get_by_label(label, exact=exact).locator("visible=true")


def ask_for_wide_images(page: Page) -> None:
    """Generate two images of a prompt, with another aspect than the model's."""
    field(page, "Prompt").fill(PROMPT)
    field(page, "Aspect").click()
    page.get_by_role("option", name="16:9 wide, 42 × 24").click()
    field(page, "Negative prompt", exact=False).fill("grey")
    field(page, "number input for Images").fill("2")
    page.locator("#generate-button").click()
    expect(page.locator("#generate-status")).to_have_text("2 images")


def test_images_of_a_prompt_are_generated_edited_and_repeated(page, tmp_path, model):
    page.evaluate(NOTE_STATUS)
    ask_for_wide_images(page)
    scales = [said for said in page.evaluate("window.seen") if said.startswith("scale")]
    assert len(scales) >= 3 and scales == sorted(scales) and all("of 7 (" in said for said in scales)
    file = page.locator("#generated a").first.get_attribute("download")
    generated = save(page, f"Download {file}", tmp_path / "a.png")
    assert generated.size == (42, 24) and file.startswith("two-red-cars-on-a-wet")
    again = repeat(f"nextscale sample --like a.png --model {model} --out b.png", tmp_path, "b.png")
    assert again.tobytes() == generated.tobytes()
    both = repeat(code(page, "#generate-command") + " --separate", tmp_path, "images-000.png")
    assert both.tobytes() == generated.tobytes()

    page.get_by_role("button", name="Open in Edit").click()
    expect(field(page, "Prompt for the generated part", exact=False)).to_have_value(PROMPT)
    field(page, "Prompt for the generated part", exact=False).fill("a bee")
    page.get_by_label("Box", exact=True).check()
    page.locator("#edit-button").click()
    expect(page.locator("#edit-status")).to_have_text("1 variant")
    edited = page.locator("#edited a").get_attribute("download")
    after = save(page, f"Download {edited}", tmp_path / "after.png")
    before = save(page, "Download image.png", tmp_path / "image.png")
    assert before.tobytes() == generated.tobytes() != after.tobytes()
    assert repeat(code(page, "#edit-command"), tmp_path, "edited.png").tobytes() == after.tobytes()


@pytest.mark.long
def test_an_empty_prompt_is_a_sentence_on_the_page(page):
    field(page, "Prompt").fill(" ")
    page.locator("#generate-button").click()
    expect(page.get_by_text("the prompt is empty")).to_be_visible()


@pytest.mark.long
def test_inspect_and_compare(page, tmp_path, model):
    ask_for_wide_images(page)
    page.get_by_role("button", name="Open in Inspect").click()
    expect(page.locator("#pyramid .ns-scale h3")).to_have_count(7)
    expect(page.locator("#codes table tbody tr")).to_have_count(7)
    shapes = page.locator("#pyramid img").evaluate_all("all => all.map(it => it.clientWidth / it.clientHeight)")
    assert all(abs(shape - 42 / 24) < 0.05 for shape in shapes)  # also the map of 1 x 1 tokens
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-button").click()
    expect(page.locator("#compare-status")).to_have_text("4 pairs")
    expect(page.locator("#compared img")).to_have_count(8)
    for side, more in ((0, f"--model {model}"), (1, "")):
        file = page.locator("#compared a").nth(side).get_attribute("download")
        saved = save(page, f"Download {file}", tmp_path / "a.png")
        again = repeat(f"nextscale sample --like a.png {more} --out b.png", tmp_path, "b.png")
        assert again.tobytes() == saved.tobytes()


@pytest.mark.long
def test_the_defaults_of_a_side_are_those_of_its_model(page):
    page.get_by_role("tab", name="Compare").click()
    guidance = page.get_by_label("number input for Guidance scale (cfg)").locator("visible=true")
    expect(guidance.nth(0)).to_have_value("3")
    expect(guidance.nth(1)).to_have_value("4")
    page.get_by_label("Model").locator("visible=true").first.click()
    page.get_by_role("option", name="starter").click()
    expect(guidance.nth(0)).to_have_value("4")


@pytest.mark.long
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_too_wide(visit, scheme, width):
    page = visit(width=width, dark=scheme == "dark")

    def check() -> None:
        open_all(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    ask_for_wide_images(page)
    check()
    page.get_by_role("button", name="Open in Edit").click()
    expect(page.locator("#painting canvas")).to_be_visible()
    page.get_by_label("Box", exact=True).check()
    page.locator("#edit-button").click()
    expect(page.locator("#edit-status")).to_have_text("1 variant")
    check()
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Open in Inspect").click()
    expect(page.locator("#codes table")).to_be_visible()
    check()
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-button").click()
    expect(page.locator("#compare-status")).to_have_text("4 pairs")
    check()
