"""Code blocks of Markdown pages, the commands in them, and mistakes in these commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)")
MARKER = re.compile(r"^ *<!-- test: (?P<what>skip|output of)(?P<rest>.*?) *-->$")
ASSIGNMENT = re.compile(r"\w+=")
PROJECT = (ROOT / "pyproject.toml").read_text()
SHELL = ("sh", "bash", "shell")


class Marker(NamedTuple):
    """The comment above a block: ``<!-- test: skip, REASON -->`` or ``<!-- test: output of COMMAND -->``."""

    what: str
    rest: str


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    """Line number of the block's first line in the page, from 1."""
    language: str
    text: str
    marker: Marker | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def skipped(self) -> bool:
        return self.marker is not None and self.marker.what == "skip"


def pages() -> list[Path]:
    """Return README and the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_blocks(page: Path) -> list[Block]:
    return list(find_blocks(page.read_text(), str(page.relative_to(ROOT))))


def find_blocks(markdown: str, page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, each with the marker above it."""
    lines = markdown.splitlines()
    marker = None
    i = 0
    while i < len(lines):
        fence = FENCE.match(lines[i])
        if not fence:
            comment = MARKER.match(lines[i])
            if comment:
                marker = Marker(comment["what"], comment["rest"].lstrip(", "))
            elif lines[i].strip():
                marker = None
            i += 1
            continue
        indent, end = len(fence["indent"]), f"{fence['indent']}{fence['ticks']}"
        start = i = i + 1
        while i < len(lines) and lines[i].rstrip() != end:
            i += 1
        text = "\n".join(line[indent:] for line in lines[start:i])
        yield Block(page, start + 1, fence["language"], text, marker)
        marker = None
        i += 1


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands of a shell block as lists of words, without comments and leading assignments."""
    pending = ""
    for line in block.text.splitlines():
        pending += line + "\n"
        if line.endswith("\\"):
            continue
        words = split(pending)
        if words is None:  # inside of quotes
            continue
        pending = ""
        yield from simple_commands(words)
    assert not pending, f"{block.place}: a quote is not closed"


def split(line: str) -> list[str] | None:
    """Split a line into words and operators (``;``, ``|``, ``&&``, ``>``). Return None if a quote is not closed."""
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=";|&>")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return None


def simple_commands(words: list[str]) -> Iterator[list[str]]:
    """Yield the commands of a line such as ``a && b | c``, without redirections."""
    command: list[str] = []
    for word in [*words, ";"]:
        if set(word) <= set(";|&"):
            command = command[: command.index(">")] if ">" in command else command
            while command and ASSIGNMENT.match(command[0]):
                command = command[1:]
            if command:
                yield command
            command = []
        else:
            command.append(word)


def nextscale_arguments(command: list[str]) -> list[str] | None:
    """Return the arguments of ``nextscale ...``, ``python -m nextscale ...`` or ``torchrun ... -m nextscale ...``."""
    if Path(command[0]).name == "nextscale":
        return command[1:]
    for i in range(len(command) - 1):
        if command[i : i + 2] == ["-m", "nextscale"]:
            return command[i + 2 :]
    return None


def complaint(command: list[str]) -> str | None:
    """Return what is wrong with a command other than ``nextscale``, or None."""
    program, *rest = command
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        unknown = [t for t in targets if f"\n{t}:" not in (ROOT / "Makefile").read_text()]
        return f"make has no target {unknown}" if unknown else None
    if program == "pip":
        return pip_complaint(rest)
    if program == "python" and rest[:1] == ["-c"]:
        compile(rest[1], "python -c", "exec")
        return None
    if program == "python" and rest and (ROOT / rest[0]).is_file():
        text = (ROOT / rest[0]).read_text()
        unknown = [word for word in rest[1:] if word.startswith("--") and f'"{word.split("=")[0]}"' not in text]
        return f"{rest[0]} has no flag {unknown}" if unknown else None
    return f"{program} is not a command that this test knows: mark the block <!-- test: skip, REASON -->"


def pip_complaint(words: list[str]) -> str | None:
    """Return why ``pip WORDS`` does not work in the folder of a clone, or None."""
    if words[:1] != ["install"]:
        return f"expected pip install, not pip {' '.join(words)}"
    files, targets, options = [], [], iter(words[1:])
    for word in options:
        if word in ("-c", "-r"):
            files.append(next(options, ""))
        elif word not in ("-e", "-q"):
            targets.append(word)
    absent = [file for file in files if not (ROOT / file).is_file()]
    if absent:
        return f"there is no file {absent}"
    if not (files or targets) or any(word.startswith("-") for word in targets):
        return f"pip install cannot read {words[1:]}"
    for target in targets:
        name, _, extras = target.rstrip("]").partition("[")
        if name != "." and f"\n{name}==" not in (ROOT / "constraints.txt").read_text():
            return f"{name or 'no name'} is neither this folder nor a package that the tests run with"
        unknown = [extra for extra in extras.split(",") if extra and f"\n{extra} = [" not in PROJECT]
        if unknown:
            return f"the package has no extra {unknown}"
    return None
