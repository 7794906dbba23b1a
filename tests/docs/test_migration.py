"""The names on the migration page exist."""

from __future__ import annotations

import dataclasses
import re

import pytest
from doc_blocks import ROOT
from source_names import exists, listed_names

from nextscale.training.recipes import TransformerRecipe

PAGE = (ROOT / "docs" / "migration.md").read_text()
NAMES = listed_names(PAGE.split("\n## Functions\n")[1])


@pytest.mark.parametrize(("module", "name"), sorted(set(NAMES)))
def test_names_exist(module, name):
    assert exists(module, name)


def test_a_wrong_name_is_found():
    assert len(NAMES) > 60
    assert exists("nextscale.transformer.var", "VARConfig.l2_norm")
    assert not exists("nextscale.transformer.var", "VAR.autoregressive_infer_cfg")


def flags() -> list[str]:
    """Return the middle column of the table of flags."""
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
        main(["train", "transformer", "--data", "a", "--out", "b", *words])
    assert len(caught) == len(cells) > 20


def test_fields_of_the_recipe_exist():
    known = {field.name for field in dataclasses.fields(TransformerRecipe)}
    named = set(re.findall(r"(\w+)=", " ".join(re.findall(r"`--set ([^`]*)`", " ".join(flags())))))
    assert len(named) > 10 and named <= known
