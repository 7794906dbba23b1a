"""What the migration page says that things are called here, they are called here."""

from __future__ import annotations

import dataclasses
import importlib
import re

import pytest
from doc_blocks import ROOT

from nextscale.training.recipes import TransformerRecipe

PAGE = (ROOT / "docs" / "migration.md").read_text()
FUNCTIONS = PAGE.split("\n## Functions\n")[1]
CELL = re.compile(r"\[`[\w/]+\.py`\]\(\.\./src/(?P<path>[\w/]+)\.py\)(?P<names>[^\[|]*)")
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)`")


def rows() -> list[tuple[str, str]]:
    """(dotted module, name) for each name that follows a link to a source file."""
    return [
        (cell["path"].replace("/", "."), name)
        for cell in CELL.finditer(FUNCTIONS)
        for name in NAME.findall(cell["names"])
    ]


def is_there(module: str, name: str) -> bool:
    """Whether a module has a name, with its methods and fields."""
    owner = importlib.import_module(module)
    for part in name.split("."):
        if dataclasses.is_dataclass(owner) and part in {field.name for field in dataclasses.fields(owner)}:
            return True
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


@pytest.mark.parametrize(("module", "name"), sorted(set(rows())))
def test_names_are_there(module, name):
    assert is_there(module, name)


def test_a_wrong_name_is_found():
    assert len(rows()) > 60
    assert is_there("nextscale.transformer.var", "VARConfig.l2_norm")
    assert not is_there("nextscale.transformer.var", "VAR.autoregressive_infer_cfg")


def flags() -> list[str]:
    """The middle column of the table of flags."""
    table = PAGE.split("## Flags of train.py")[1].split("\n## ")[0]
    return [line.split("|")[2] for line in table.splitlines() if line.startswith("| `--")]


def test_flags_parse(monkeypatch):
    from nextscale.cli import train_transformer
    from nextscale.cli.main import main

    caught = []
    monkeypatch.setattr(train_transformer, "run", caught.append)
    cells = [code for column in flags() for code in re.findall(r"`(--[^`]*)`", column)]
    values = {"--accumulate": "2", "--batch-size": "8", "--epochs": "1", "--steps": "1", "--learning-rate": "1e-4"}
    values |= {"--workers": "1", "--seed": "1", "--dtype": "tf32", "--out": "b", "--data": "a", "--preset": "d16"}
    for code in cells:
        words = code.split()
        if len(words) == 1 and words[0] != "--compile":
            words.append(values.get(words[0], "x"))
        main(["train", "var", "--data", "a", "--out", "b", *words])
    assert len(caught) == len(cells) > 20


def test_fields_of_the_recipe_are_there():
    known = {field.name for field in dataclasses.fields(TransformerRecipe)}
    named = set(re.findall(r"(\w+)=", " ".join(re.findall(r"`--set ([^`]*)`", " ".join(flags())))))
    assert len(named) > 10 and named <= known
