"""The studio as axe-core sees it: every tab in use, light and dark, at desktop and phone width."""

from __future__ import annotations

from typing import Any

import pytest
from browser import CHROMIUM, open_all, violations

pytest.importorskip("playwright", reason="needs playwright, of the dev extra")
pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, of the dev extra")

from playwright.sync_api import expect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the path"),
]


@pytest.fixture(
    params=[
        pytest.param((1280, False), id="desktop-light"),
        pytest.param((375, True), id="phone-dark", marks=pytest.mark.long),
        pytest.param((1280, True), id="desktop-dark", marks=pytest.mark.long),
        pytest.param((375, False), id="phone-light", marks=pytest.mark.long),
    ]
)
def page(request, visit) -> Any:
    width, dark = request.param
    return visit(width=width, dark=dark)


def test_generate(page):
    open_all(page)
    assert violations(page) == []
    page.get_by_role("button", name="Enlarge dress").first.click()
    expect(page.locator("dialog")).to_be_visible()
    assert violations(page) == []


def test_edit(page):
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator("#edit-button")).to_be_visible()
    assert violations(page) == []
    page.locator("#edit-button").click()
    expect(page.locator(".toast-body")).to_have_css("opacity", "1")  # it has faded in
    assert violations(page) == []
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Open in Edit").click()
    expect(page.locator("#painting canvas")).to_be_visible()
    open_all(page)
    assert violations(page) == []
    page.get_by_label("Box", exact=True).check()
    page.locator("#edit-button").click()
    expect(page.locator("#edit-status")).to_have_text("1 variant")
    assert violations(page) == []
    page.get_by_label("Continue", exact=False).check()
    expect(page.get_by_label("Scales to keep").first).to_be_visible()
    assert violations(page) == []


def test_inspect(page):
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator("#pyramid")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("tab", name="Generate").click()
    page.get_by_role("button", name="Open in Inspect").click()
    expect(page.locator("#codes table")).to_be_visible()
    assert violations(page) == []


def test_compare(page):
    page.get_by_role("tab", name="Compare").click()
    open_all(page)
    assert violations(page) == []
    page.locator("#compare-button").click()
    expect(page.locator("#compare-status")).to_have_text("4 pairs")
    assert violations(page) == []


UNMARKED = """() => {
  const focused = document.activeElement;
  const marked = [focused, focused.parentElement].some((it) => getComputedStyle(it).outlineStyle !== 'none');
  return focused === document.body || marked ? '' : focused.outerHTML.slice(0, 200);
}"""
"""The focused element, if nothing on the screen shows that it has the focus."""


@pytest.mark.parametrize(
    "tab", ["Generate", "Edit", *(pytest.param(tab, marks=pytest.mark.long) for tab in ("Inspect", "Compare"))]
)
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(visit, tab):
    page = visit()
    page.get_by_role("tab", name=tab).click()
    open_all(page)
    shown = (
        page.locator("[role=tabpanel] >> visible=true").locator("input, button, textarea, a").locator("visible=true")
    )
    count = shown.count()
    assert count >= 3
    page.get_by_role("tab", name=tab).focus()
    reached: set[str] = set()
    for _ in range(count + 10):
        page.keyboard.press("Tab")
        assert page.evaluate(UNMARKED) == ""
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    assert page.locator("footer a").last.evaluate("it => it.outerHTML") in reached  # it has come to the end
