"""Names of functions, classes and fields that pages list behind a link to a source file."""

from __future__ import annotations

import dataclasses
import importlib
import re

CELL = re.compile(r"\[`[\w/]+\.py`\]\(\.\./src/(?P<path>[\w/]+)\.py\)(?P<names>[^\[|:\n]*)")
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)`")


def listed_names(markdown: str) -> list[tuple[str, str]]:
    """Return (module, name) for each name that follows a link to a source file, up to ``:``, ``|`` or the line end."""
    return [
        (cell["path"].replace("/", "."), name)
        for cell in CELL.finditer(markdown)
        for name in NAME.findall(cell["names"])
    ]


def exists(module: str, name: str) -> bool:
    """Whether a module has a name, where ``Class.name`` is a method or a field."""
    owner = importlib.import_module(module)
    for part in name.split("."):
        if dataclasses.is_dataclass(owner) and part in {field.name for field in dataclasses.fields(owner)}:
            return True
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True
