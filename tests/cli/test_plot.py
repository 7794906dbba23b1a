"""``nextscale plot``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tiny_logs import tokenizer_lines, transformer_lines, write_run

from nextscale.cli.plot import curves_beside


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """The current folder, with runs in every state."""
    write_run(tmp_path / "var", transformer_lines())
    write_run(tmp_path / "other" / "var", transformer_lines(scale=1.2))
    write_run(tmp_path / "tokenizer", tokenizer_lines())
    write_run(tmp_path / "empty", [])
    write_run(tmp_path / "damaged", [{"loss": 1}, {"loss": 2}])
    write_run(tmp_path / "norecipe", transformer_lines(), batch_size=None)
    (tmp_path / "nolog").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_run(call, runs):
    assert call("plot", "var") == (0, "curves.png\n", "")
    with Image.open("curves.png") as image:
        image.load()
        assert image.width > 900


def test_several_runs_and_a_run_at_work(call, runs):
    with (runs / "var" / "log.jsonl").open("a") as file:
        file.write(json.dumps(transformer_lines()[0])[:20])
    assert call("plot", "var", "other/var", "tokenizer", "--out", "new/a.svg").out == "new/a.svg\n"
    drawn = (runs / "new" / "a.svg").read_text()
    assert f"<!--  {runs.name}/var -->" in drawn and "<!--  other/var -->" in drawn


def test_a_verdict_for_each_run(call, runs):
    code, out, err = call("plot", "var", "other/var", "--compare", "d16")
    assert code == 0 and not err
    assert out.count(" official d16 has no earlier point than ") == 2 and out.endswith("curves.png\n")
    code, out, _ = call("plot", "other/var", "--compare", "var")
    assert code == 0 and "var: after 4 k images: loss " in out and "(20.0 % above)" in out


@pytest.mark.long
def test_small_runs_are_compared_with_the_starter(call, runs):
    out = call("plot", "var", "other/var", "--compare", "d16").out
    assert out.count("starter is the nearest bundled reference") == 2
    code, out, err = call("plot", "var", "--compare", "starter", "--out", "a.png")
    assert code == 0 and not err and out.startswith("var: after 4 k images: loss ") and " starter " in out
    assert "starter" in curves_beside(Path("var"), "d16", Path("curves.png"))()


@pytest.mark.parametrize(
    ("command", "word"),
    {
        "nowhere": "nowhere/log.jsonl",
        "nolog": "nolog/log.jsonl",
        "file": "file/log.jsonl",
        "empty": "empty/log.jsonl",
        "damaged": "line 1",
        "var --compare d17": "d17",
        "var --compare nolog": "nolog/log.jsonl",
        "var --compare tokenizer": "tokenizer",
        "tokenizer --compare d16": "official d16",
        "norecipe --compare d16": "recipe.json",
        "var --out a.xyz": ".png, .svg, .pdf",
        "var --out a": "expected a name that ends",
        "var --out folder.png": "folder",
        "var --out file/a.png": "file",
        "var --smooth 0": "smooth",
    }.items(),
)
def test_bad_input(call, runs, command, word):
    before = sorted(runs.rglob("*"))
    code, out, err = call("plot", *command.split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and "Traceback" not in err and word in err
    assert sorted(runs.rglob("*")) == before


def test_no_run(call, runs):
    assert call("plot").code == 2


def test_a_run_that_has_logged_nothing_yet_is_no_error(runs):
    draw = curves_beside(Path("empty"), "d16", Path("curves.png"))
    assert "nothing to compare with d16 yet" in draw() and not Path("curves.png").exists()
