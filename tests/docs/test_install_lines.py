"""Each install line of the repository works from a clone: in documentation, scripts, notebooks and messages."""

from __future__ import annotations

import re
import shlex

import pytest
from doc_blocks import PROJECT, ROOT, complaint, pages

from nextscale.runtime.extras import not_installed

PIP = re.compile(r"\bpip install\b[^\n`#;&|)]*")
MAKE = re.compile(r"`make (\w+)")
SOURCES = [
    *pages(),
    *(ROOT / name for name in ("CONTRIBUTING.md", "Makefile", ".ci/run", "mkdocs.yml")),
    *sorted(path for folder in ("examples", "benchmarks") for path in (ROOT / folder).glob("*.*")),
]
EXTRAS = re.findall(
    r"^([\w-]+) = \[", PROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0], re.M
)


def problems(text: str) -> list[str]:
    """Return what is wrong with the install lines and make targets that a text names."""
    commands = [shlex.split(line.partition(" in ")[0]) for line in PIP.findall(text)]
    commands += [["make", target] for target in MAKE.findall(text)]
    return [problem for command in commands if (problem := complaint(command))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_install_lines_resolve(path):
    assert not problems(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "needs `pip install 'nextscale[plot]'`",
        "(pip install -e '.[coffee]')",
        "run `make coffee`",
        "pip install -c a.txt -e .",
    ],
)
def test_a_broken_line_is_found(text):
    assert len(problems(text)) == 1


def test_the_documentation_names_the_lines():
    text = "".join(path.read_text() for path in pages())
    assert len(PIP.findall(text)) > 5 and "make serve" in text


@pytest.mark.parametrize("extra", EXTRAS)
def test_messages_resolve(extra):
    message = not_installed("something", extra)
    assert PIP.search(message) and not problems(message)
    assert ("make serve" in message) == (extra == "serve") and complaint(["make", "serve"]) is None


def test_one_function_makes_the_install_lines_of_messages():
    found = [path.name for path in (ROOT / "src").rglob("*.py") if re.search("pip.{0,3} install", path.read_text())]
    assert found == ["extras.py"]
    assert {"hf", "plot", "serve", "diffusers", "docs", "dev"} <= set(EXTRAS)
