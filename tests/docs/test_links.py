"""Links between files have a target, on a code host and on the website."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_blocks import ROOT, pages

LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(?:#[^)\s]*)?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PAGES = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def missing(markdown: str, folder: Path) -> list[str]:
    return [link for link in LINK.findall(FENCED.sub("", markdown)) if not (folder / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_targets(page):
    assert not missing(page.read_text(), page.parent)


def test_a_broken_link_is_found():
    assert missing("[here](nowhere.md#top), [there](README.md), [site](https://a.b)", ROOT) == ["nowhere.md"]
