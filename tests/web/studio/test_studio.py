"""The studio page as a whole, without a browser."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nextscale import __version__
from nextscale.web.studio.served_model import Model
from nextscale.web.studio.studio import build_studio, mount_studio

UNLABELLED = {
    "html",
    "row",
    "column",
    "tabs",
    "tabitem",
    "form",
    "group",
    "state",
    "accordion",
    "button",
    "uploadbutton",
}


@pytest.fixture
def studio(start):
    return build_studio(start(), [start()])


def test_every_control_has_a_label(studio):
    bare = [
        block.__class__.__name__
        for block in studio.blocks.values()
        if block.get_block_name() not in UNLABELLED and not getattr(block, "label", None)
    ]
    assert not bare


def test_the_page_asks_no_other_host(studio):
    app = FastAPI()
    mount_studio(app, studio, "/studio")
    with TestClient(app) as client:
        page = client.get("/studio/").text
        theme = client.get("/studio/theme.css").text
        assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    loaded = re.findall(r"(?:src|@import|url\()\s*=?\s*[\"']?(https?:[^\"')\s]+)", page + theme)
    assert not [address for address in loaded if "testserver" not in address]
    assert "fonts.googleapis" not in page + theme and "woff" not in theme
    assert studio.analytics_enabled is False


def test_changing_a_field_triggers_nothing_in_the_queue(studio):
    """The click that leaves the field is queued. Of two queued at once, the second can lose its results."""
    assert {f.queue for f in studio.fns.values() if f.fn and "change" in {name for _, name in f.targets}} == {False}


def test_buttons_are_for_the_page_alone(studio):
    assert {function.api_visibility for function in studio.fns.values()} == {"private"}


def test_the_footer_says_which_version_and_where_the_api_is(studio):
    words = [str(block.value) for block in studio.blocks.values() if block.get_block_name() == "html"]
    assert any(__version__ in word and 'href="/openapi.json"' in word for word in words)


def test_names_of_classes(start):
    model = Model(start())
    assert model.choices[0] == ("Ankle boot (0)", 0) and model.choices[-1] == ("no class", 5)
