"""``--out``: no verb takes a folder for a file or an empty text for a path, and long names fail before the work."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

from nextscale.cli.main import VERBS
from nextscale.cli.parsing import path_flags

FILES = {
    "sample": "sample --model {model}",
    "edit": "edit photos/0.png --box 0,0,1,0.5 --model {model}",
    "reconstruct": "reconstruct photos/0.png --model {model}",
    "plot": "plot run",
    "scaling fit": "scaling fit run",
    "evaluate reference": "evaluate reference data --size 8 --features none",
    "bench sample": "bench sample --model {model} --repeats 1",
}
"""Commands that write a file."""
FOLDERS = ("convert", "tokenize", "train tokenizer", "train transformer", "evaluate", "evaluate sweep", "scaling run")
RUNS = ("evaluate classifier", "evaluate reader", "evaluate towers")
ENDINGS = {"evaluate reference": ".npz", "bench sample": ".json"}


def words_of(command: str, model: Path) -> list[str]:
    return [word.format(model=model) for word in command.split(" ")]


def out_flag(verb: str) -> str:
    return "--json" if verb.startswith("bench") else "--out"


def refusal(outcome) -> str:
    code, out, err = outcome
    assert code == 2 and not out and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("out", [".", "/", "..", "photos"])
@pytest.mark.parametrize("verb", FILES)
def test_a_folder_instead_of_a_file(call, model, place, verb, out):
    before = sorted(place.rglob("*"))
    said = refusal(call(*words_of(FILES[verb], model), out_flag(verb), out))
    assert f"{out} is a folder: expected the name of a" in said
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_path(call, place, verb):
    options = importlib.import_module(VERBS[verb][0]).Options
    flags = path_flags(options)
    named = {field.name for field in dataclasses.fields(options)}
    assert ("out" not in named) or "--out" in flags
    for flag in flags:
        for words in ((flag, ""), (f"{flag}=",), (flag.replace("-", "_").replace("__", "--"), "")):
            said = refusal(call(*verb.split(), *words))
            assert "must be a path, not an empty text" in said
    assert sorted(path.name for path in place.iterdir()) == ["data", "photos"]


def test_verbs_that_write_are_covered():
    with_out = {
        verb for verb, (module, _) in VERBS.items() if "--out" in path_flags(importlib.import_module(module).Options)
    }
    assert with_out == {*(verb for verb in FILES if verb != "bench sample"), *FOLDERS, *RUNS}


@pytest.mark.parametrize("verb", FILES)
def test_a_name_that_is_too_long(call, model, place, verb):
    ending = ENDINGS.get(verb, ".png")
    said = refusal(call(*words_of(FILES[verb], model), out_flag(verb), "a" * 256 + ending))
    assert "too long" in said and len(said) < 400


@pytest.mark.parametrize(
    ("flags", "name"),
    [((), "a" * 251 + ".png"), (("--show-scales",), "a" * 244 + ".png"), (("--separate",), "a" * 247 + ".png")],
)
def test_the_longest_names(call, model, place, flags, name):
    command = ("sample", "--model", model, "--num-images", 2, *flags, "--out")
    code, out, _ = call(*command, name)
    assert code == 0 and all(Path(line).is_file() for line in out.split())
    assert not [path for path in place.iterdir() if path.name.startswith(".")]
    if flags:
        said = refusal(call(*command, f"b{name}"))
        assert "too long" in said and not list(place.glob("b*"))


def test_an_input_is_not_overwritten(call, model, place):
    before = Path("photos/0.png").read_bytes()
    said = refusal(call("reconstruct", "photos/1.png", "photos/0.png", "--model", model, "--out", "photos/./0.png"))
    assert "photos/0.png is one of the images, which would be overwritten" in said
    assert Path("photos/0.png").read_bytes() == before


def test_an_empty_model(call, place):
    assert "no model ''" in refusal(call("sample", "--model="))


def test_names_that_begin_with_a_dash(call, model, place):
    assert call("sample", "--model", model, "--num-images", 1, "--out=-a.png").code == 0
    assert Path("-a.png").is_file()
    assert call("edit", "./-a.png", "--box", "0,0,1,0.5", "--model", model, "--out=-b.png").code == 0
    assert call("reconstruct", "./-a.png", "--model", model, "--out=-c.png").code == 0
