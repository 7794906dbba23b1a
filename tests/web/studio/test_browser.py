"""The studio in a headless Chromium, served by ``nextscale serve``."""

from __future__ import annotations

import re

import pytest
from browser import CHROMIUM, NOTE_STATUS, code, repeat, save
from PIL import Image
from tiny_web import png

pytest.importorskip("playwright", reason="needs playwright, of the dev extra")

from playwright.sync_api import Locator, Page, expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the path"),
]


def choose(page: Page, label: str, words: str) -> None:
    """Pick what a search in a drop-down finds."""
    box = page.get_by_label(label).locator("visible=true").first
    box.click()
    box.fill(words)
    page.get_by_role("option", name=words).first.click()


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


@pytest.mark.long
def test_a_mistake_is_a_sentence_on_the_page(page):
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-button").click()
    expect(page.get_by_text("there is no image yet")).to_be_visible()


@pytest.mark.long
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


@pytest.mark.long
def test_buttons_that_take_a_class_away_say_which(page):
    expect(page.get_by_role("button", name="Remove", exact=False).locator("visible=true")).to_have_count(4)
    page.get_by_role("button", name="Remove dress (0)").locator("visible=true").press("Enter")
    expect(page.get_by_role("button", name="Remove dress (0)").locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("button", name="Remove longsleeve (2)").locator("visible=true")).to_have_count(1)


@pytest.mark.parametrize(
    ("control", "typed", "said"),
    [
        ("number input for Guidance scale (cfg)", "99999", "Guidance scale (cfg) must be from 0 to 10, not 99999"),
        pytest.param(
            "number input for Guidance scale (cfg)",
            "",
            "Guidance scale (cfg) is empty: expected a number from 0 to 10",
            marks=pytest.mark.long,
        ),
        ("Seed", "1.5", "Seed must be an integer, not 1.5"),
    ],
)
def test_a_number_out_of_range_stays_and_is_refused(page, control, typed, said):
    field = page.get_by_label(control, exact=True).locator("visible=true")
    field.fill(typed)
    page.locator("#generate-button").click()
    expect(page.get_by_text(said)).to_be_visible()
    expect(field).to_have_value(typed)


def test_a_phone_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 375, "height": 800})
    for tab in ("Generate", "Edit", "Inspect", "Compare"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, tab


def seed_field(page: Page) -> Locator:
    return page.get_by_label("Seed", exact=True).locator("visible=true")


def keep_box(page: Page) -> Locator:
    return page.get_by_label("Keep it").locator("visible=true")


@pytest.mark.parametrize("by", ["Enter", pytest.param("click", marks=pytest.mark.long)])
def test_a_typed_seed_is_used(page, by):
    expect(keep_box(page)).not_to_be_checked()
    seed_field(page).press("Control+a")
    seed_field(page).press_sequentially("4711")
    expect(keep_box(page)).to_be_checked()
    seed_field(page).press("Enter") if by == "Enter" else page.locator("#generate-button").click()
    for seed in ("4711", "4712", "4713", "4714"):
        expect(page.locator("#generated")).to_contain_text(f"seed {seed}")
    expect(page.locator("#generate-status")).to_have_text("4 images")
    expect(seed_field(page)).to_have_value("4711")


@pytest.mark.long
def test_an_empty_seed_is_a_new_one(page):
    seed_field(page).fill("7")
    expect(keep_box(page)).to_be_checked()
    seed_field(page).fill("")
    expect(keep_box(page)).not_to_be_checked()
    page.locator("#generate-button").click()
    expect(seed_field(page)).not_to_have_value("")


@pytest.mark.parametrize("tab", ["Generate", pytest.param("Compare", marks=pytest.mark.long)])
def test_a_negative_seed_is_one_error_that_leaves(page, tab):
    page.get_by_role("tab", name=tab).click()
    seed_field(page).fill("-5")
    button = page.locator(f"#{tab.lower()}-button")
    said = "a seed must be from 0 to 9007199254740991 (2^53 - 1), not -5"
    for _ in range(2):  # the second error takes the place of the first
        button.click()
        expect(page.locator(".toast-body")).to_have_count(1)
        expect(page.get_by_text(said)).to_have_count(1)
    assert page.evaluate(BADGES) == 0
    seed_field(page).fill("5")
    button.click()
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.locator(f"#{tab.lower()}-status")).to_have_text({"Generate": "4 images", "Compare": "4 pairs"}[tab])


BADGES = "[...document.querySelectorAll('[data-testid=status-tracker]')].filter(it => !it.matches('.hide')).length"
"""Number of marks that Gradio puts on controls."""


@pytest.mark.long
def test_an_error_leaves_without_an_action(page):
    page.get_by_role("tab", name="Edit").click()
    page.locator("#edit-button").click()
    expect(page.get_by_text("there is no image yet")).to_be_visible()
    expect(page.locator(".toast-body")).to_have_count(0, timeout=15_000)


@pytest.mark.long
def test_no_control_appears_that_the_mode_does_not_use(page):
    page.get_by_role("tab", name="Edit").click()
    shown = page.locator("[role=tabpanel] >> visible=true").locator("input, textarea, button").locator("visible=true")
    sides = page.get_by_label("number input for Top").locator("visible=true")
    for where in ("Brush", "Box", "Brush"):
        page.get_by_label(where, exact=True).check()
        expect(sides).to_have_count(1 if where == "Box" else 0)
        before = shown.count()
        assert before > 10
        page.get_by_label("Continue", exact=False).check()
        expect(page.get_by_text("Select the region with")).not_to_be_visible()
        expect(sides).to_have_count(0)
        expect(page.get_by_text("Blending")).not_to_be_visible()
        page.get_by_label("Inpaint", exact=False).check()
        expect(page.get_by_text("Select the region with")).to_be_visible()
        expect(shown).to_have_count(before)
        expect(page.get_by_role("textbox", name="Paint")).to_have_count(0)


def test_stop_is_enabled_only_while_images_are_generated(page):
    stop = page.locator("#stop-button")
    expect(stop).to_be_disabled()
    page.evaluate(NOTE_STOP)
    page.locator("#generate-button").click()
    page.wait_for_function("window.states.length >= 2")
    assert page.evaluate("window.states") == [False, True]  # disabled: no, then yes
    expect(page.locator("#generate-status")).to_have_text("4 images")


NOTE_STOP = """() => {
  window.states = [];
  const button = document.querySelector('#stop-button');
  new MutationObserver(() => window.states.push(button.disabled)).observe(button, {attributeFilter: ['disabled']});
}"""


def test_stopping_ends_what_runs(page):
    page.get_by_label("number input for Images per class").locator("visible=true").fill("4")
    page.locator("#generate-button").click()
    page.locator("#stop-button").click()
    expect(page.locator("#generate-status")).to_have_text("stopped")
    expect(page.locator("#stop-button")).to_be_disabled()
    page.get_by_label("number input for Images per class").locator("visible=true").fill("1")
    page.locator("#generate-button").click()
    expect(page.locator("#generate-status")).to_have_text("4 images")


def drop(page: Page, place: Locator, content: bytes, name: str, kind: str) -> bool:
    """Drop a file; gives whether the page leaves it to the browser, which would open it."""
    files = page.evaluate_handle(
        """([bytes, name, type]) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], name, {type}));
          return files;
        }""",
        [list(content), name, kind],
    )
    return place.evaluate(
        """(place, dataTransfer) => {
          const make = (kind) => new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true});
          return [place.dispatchEvent(make('dragover')), place.dispatchEvent(make('drop'))].some(Boolean);
        }""",
        files,
    )


def test_a_file_can_be_dropped_on_the_upload(page):
    red = png(Image.new("RGB", (64, 64), "red"))
    for tab, image in (("Edit", "#painting img"), ("Inspect", ".ns-figure img[alt^='The image']")):
        page.get_by_role("tab", name=tab).click()
        upload = page.get_by_role("button", name="Upload an image").locator("visible=true")
        assert not drop(page, upload, red, "a.png", PNG)
        shown = page.locator(image).first
        expect(shown).to_be_visible()
        assert shown.evaluate(MIDDLE)[:3] == [255, 0, 0]


PNG = "image/png"
MIDDLE = """(image) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext('2d').drawImage(image, 0, 0);
  return [...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
}"""
"""The colour in the middle of an image."""


@pytest.mark.long
def test_a_dropped_file_that_is_no_image_is_refused(page):
    page.get_by_role("tab", name="Edit").click()
    place = page.locator("#painting")
    assert not drop(page, place, b"no image", "a.png", PNG)
    expect(page.locator(".toast-body")).to_contain_text("not an image")
    assert page.evaluate(BADGES) == 0


@pytest.mark.long
def test_a_file_dropped_elsewhere_is_not_opened_by_the_browser(page):
    for tab in ("Generate", "Compare"):
        page.get_by_role("tab", name=tab).click()
        assert not drop(page, page.locator("body"), b"", "a.png", PNG)


@pytest.mark.long
def test_an_image_is_enlarged(page):
    image, dialog = page.locator("#generated .ns-enlarge").first, page.get_by_role("dialog")
    for close in ("Escape", "button", "image"):
        expect(dialog).to_have_count(0)
        image.press("Enter") if close == "Escape" else image.click()
        expect(dialog).to_be_visible()
        large, small = dialog.locator("img").bounding_box(), image.bounding_box()
        assert large["height"] > 2 * small["height"] and large["height"] < 900
        if close == "Escape":
            page.keyboard.press("Escape")
            expect(image).to_be_focused()
        elif close == "button":
            dialog.get_by_role("button", name="Close").click()
        else:
            dialog.locator("img").click()


@pytest.mark.long
def test_the_token_maps_are_enlarged(page):
    page.get_by_role("button", name="Open in Inspect").click()
    page.get_by_role("button", name="Enlarge token map of scale 8 × 8").click()
    expect(page.get_by_role("dialog")).to_contain_text("token map of scale 8 × 8")
