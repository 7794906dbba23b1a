"""Invalid requests to the studio get one sentence and one log line, and no file of the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tiny_web import png

from nextscale.web.server import build_app
from nextscale.web.studio.page import NO_BUTTON, NOT_A_VALUE, NOT_UPLOADED
from nextscale.web.studio.studio import build_studio, mount_studio

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, as Gradio counts requests
Ask = Callable[..., tuple[bool, dict[str, Any]]]
IMAGE = png(Image.new("RGB", (8, 8), "red"))


@pytest.fixture
def studio(start, tmp_path, monkeypatch) -> gr.Blocks:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return build_studio(start())


@pytest.fixture
def visitor(studio, start) -> Iterator[TestClient]:
    app = build_app(start())
    mount_studio(app, studio, "/")
    with TestClient(app) as client:
        yield client


@pytest.fixture
def ask(visitor, studio) -> Ask:
    """``ask("inspect_upload", value)``: (whether it went well, the answer), as the page's queue has it."""

    def run(name: str, *values: Any, **changes: Any) -> tuple[bool, dict[str, Any]]:
        index, function = next((i, f) for i, f in studio.fns.items() if f.name == name)
        data = [getattr(block, "value", None) for block in function.inputs]
        data = [values[i] if i < len(values) else changes.get(b.label, data[i]) for i, b in enumerate(function.inputs)]
        body = {"data": data, "fn_index": index, "session_hash": "s"}
        joined = visitor.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        for line in visitor.get("/gradio_api/queue/data?session_hash=s").iter_lines():
            event = json.loads(line[5:]) if line.startswith("data:") else {}
            if event.get("msg") == "process_completed":
                return event["success"], event["output"]
        raise AssertionError("no answer")

    return run


def file_data(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def one_line(caplog, capfd) -> str:
    """What the log says; no traceback beside it."""
    assert "Traceback" not in capfd.readouterr().err
    (line,) = [
        r.getMessage() for r in caplog.records if r.name.startswith("nextscale") and r.levelno >= logging.WARNING
    ]
    return line


def test_an_upload_is_read(visitor, ask):
    (path,) = visitor.post("/gradio_api/upload", files={"files": ("a.png", IMAGE)}).json()
    good, answer = ask("inspect_upload", file_data(path))
    assert good and "data:image/png" in answer["data"][0]


@pytest.mark.parametrize("name", ["inspect_upload", "take_upload"])
@pytest.mark.parametrize("kind", ["outside", "missing", "link", "above", "address", "folder"])
def test_no_other_file_is(ask, tmp_path, name, kind, caplog, capfd):
    uploads = tmp_path / "uploads"
    uploads.mkdir(exist_ok=True)
    (tmp_path / "secret.png").write_bytes(IMAGE)
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    path = {
        "outside": tmp_path / "secret.png",
        "missing": tmp_path / "nothing.png",
        "link": uploads / "link.png",
        "above": Path(f"{uploads}/../secret.png"),
        "address": "http://127.0.0.1:1/a.png",
        "folder": uploads,
    }[kind]
    good, answer = ask(name, file_data(path))
    assert not good and answer["error"] == NOT_UPLOADED  # whether there is such a file or not
    assert NOT_UPLOADED in one_line(caplog, capfd)


def test_nor_through_a_control_for_text(ask, tmp_path):
    (tmp_path / "secret.png").write_bytes(IMAGE)
    good, answer = ask("run", **{"Paint": file_data(tmp_path / "secret.png")})
    assert not good and answer["error"] == NOT_UPLOADED
    assert not list((tmp_path / "uploads").rglob("secret.png"))  # nor copied to where it could be fetched


@pytest.mark.parametrize(
    "changes", [{"Guidance scale (cfg)": 99}, {"Seed": "abc"}, {"Classes": ["no such"]}, {"Images per class": 1.5}]
)
def test_a_bad_value_is_one_line_in_the_log(ask, changes, caplog, capfd):
    good, answer = ask("run_generate", **changes)
    assert not good and answer["error"]
    assert "\n" not in one_line(caplog, capfd)


@pytest.mark.parametrize("seed", [99999999999999999999, -1, 2**53, 2**53 - 1, 1e300])
def test_seeds_that_are_out_of_range(ask, seed, caplog, capfd):
    named = {"Seed": seed, "Keep it": True, "Classes": [0, 1]}
    good, answer = ask("run_generate", **named)
    assert not good and "a seed must be from 0 to 9007199254740991" in answer["error"]
    assert "Traceback" not in capfd.readouterr().err and not [r for r in caplog.records if r.levelname == "ERROR"]
    assert ask("run_generate", **{**named, "Seed": 2**53 - 2})[0]  # the page goes on, up to the last seed


@pytest.mark.parametrize("name", ["run_generate", "run"])
def test_a_negative_seed_is_refused_even_if_it_is_not_kept(ask, name):
    good, answer = ask(name, **{"Seed": -5, "Keep it": False})
    assert not good and "a seed must be from 0 to 9007199254740991" in answer["error"] and "-5" in answer["error"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Seed": 1.5}, "Seed must be an integer, not 1.5"),
        ({"Images per class": 1.5}, "Images per class must be an integer, not 1.5"),
        ({"Images per class": 9}, "Images per class must be from 1 to 8, not 9"),
        ({"Guidance scale (cfg)": -3}, "Guidance scale (cfg) must be from 0 to 10, not -3"),
        ({"Guidance scale (cfg)": 99999}, "Guidance scale (cfg) must be from 0 to 10, not 99999"),
        ({"Guidance scale (cfg)": None}, "Guidance scale (cfg) is empty: expected a number from 0 to 10"),
        ({"Top-p": 1.01}, "Top-p must be from 0 to 1, not 1.01"),
    ],
)
def test_a_number_out_of_range_is_refused_and_not_changed(ask, changes, said):
    good, answer = ask("run_generate", **{"Keep it": True, "Classes": [0], **changes})
    assert not good and answer["error"] == said


@pytest.mark.parametrize("name", ["open_in_edit", "open_in_inspect"])
def test_what_is_not_drawn_cannot_be_handed_on(ask, name, caplog, capfd):
    good, answer = ask(name)
    assert not good and "no such image" in answer["error"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_button_that_there_is_not(visitor, caplog, capfd):
    answer = visitor.post("/gradio_api/queue/join", json={"data": [], "fn_index": 9999, "session_hash": "s"})
    assert answer.status_code == 404 and answer.json()["error"]["message"] == NO_BUTTON
    assert "9999" in one_line(caplog, capfd)


def test_what_gradio_says_of_its_own_is_not_passed_on(ask):
    assert ask("run_generate", **{"Seed": "abc"})[1]["error"] == NOT_A_VALUE
