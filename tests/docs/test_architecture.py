"""The files, functions and folders on the architecture page exist."""

from __future__ import annotations

import re

import pytest
from doc_blocks import ROOT
from source_names import exists, listed_names

PAGE = (ROOT / "docs" / "architecture.md").read_text()
SOURCE = ROOT / "src" / "nextscale"
STEP = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
MOST_STEPS = 15


def walks() -> dict[str, list[str]]:
    """The numbered steps under each heading."""
    sections = PAGE.split("\n## ")[1:]
    steps = {section.split("\n")[0]: [text for _, text in STEP.findall(section)] for section in sections}
    return {heading: found for heading, found in steps.items() if found}


@pytest.mark.parametrize(("module", "name"), sorted(set(listed_names(PAGE))))
def test_names_exist(module, name):
    assert exists(module, name)


def test_there_are_two_walks_of_at_most_fifteen_steps():
    assert len(walks()) == 2
    for steps in walks().values():
        assert 8 < len(steps) <= MOST_STEPS
        assert all(listed_names(step) for step in steps), "a step names no file and function"


@pytest.mark.parametrize("heading", walks())
def test_every_name_in_a_walk_exists_somewhere(heading):
    """Also the names in the sentences, such as `Codebook.codes`."""
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    names = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`", "\n".join(walks()[heading]))
    code = [n for n in names if not n.endswith(".py") and ("_" in n or "." in n or n[0].isupper())]
    assert len(code) > 8
    assert not [name for name in code if not re.search(rf"\b(?:def|class) {name.split('.')[-1]}\b", text)]


def test_the_table_lists_every_folder():
    table = PAGE.split("\n## Folders\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE))
    assert listed == {path.parent.name for path in SOURCE.glob("*/__init__.py")}
