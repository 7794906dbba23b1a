"""Parse the flags of a verb into its dataclass."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from nextscale.cli.number_lists import split_lists
from nextscale.errors import InputError
from nextscale.io.field_docs import field_docs
from nextscale.sampling.settings import PerScale

METAVARS: dict[Any, str] = {
    int | None: "INT",
    float | None: "FLOAT",
    str | None: "STR",
    Path | None: "PATH",
    PerScale: "FLOAT [FLOAT ...]",
    PerScale | None: "FLOAT [FLOAT ...]",
    tuple[int, ...] | None: "INT [INT ...]",
}
"""tyro itself would show that None is a value, too."""


def parse(options: type, verb: str, arguments: list[str]) -> Any:
    """Parse the flags of a verb.

    Raises:
        InputError: from the checks of a dataclass. tyro would print it in a box with unrelated text. Or a path is
            empty, or a list of numbers has something else.
    """
    check_paths(options, arguments)
    arguments = split_lists(options, arguments)
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            return run_tyro(options, verb, arguments, help_texts=False)
    except SystemExit as stop:
        error: BaseException | None = stop
        while error is not None and not isinstance(error, InputError):
            error = error.__context__
        if error is not None:
            raise InputError(str(error)) from error
    return run_tyro(options, verb, arguments, help_texts=True)  # prints help or an error, and exits


def run_tyro(options: type, verb: str, arguments: list[str], help_texts: bool) -> Any:
    """Parse flags with tyro. Without help texts, which few calls show, this takes half the time."""
    description = None if help_texts else ""
    config = (tyro.conf.OmitArgPrefixes,)
    annotate(options, help_texts)
    return tyro.cli(options, prog=f"nextscale {verb}", description=description, args=arguments, config=config)


def check_paths(options: type, arguments: Sequence[str]) -> None:
    """Raise InputError if a flag for a path is given an empty text, which Python takes for the current folder."""
    flags = path_flags(options)
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") in flags and (value == "" if equals else following == ""):
            raise InputError(f"{flag} must be a path, not an empty text (the current folder is .)")


def path_flags(options: type) -> set[str]:
    """Return the flags whose values are paths."""
    flags: set[str] = set()
    types = get_type_hints(options)
    for field in fields(options):
        kind = types[field.name]
        if is_dataclass(kind):
            flags |= path_flags(kind)  # type: ignore[arg-type]
        elif Path in (kind, *get_args(kind)):
            flags.add(f"--{field.name.replace('_', '-')}")
    return flags


def annotate(options: type, help_texts: bool) -> None:
    """Tell tyro how to show the fields of a dataclass: their docstrings as help texts, without line breaks.

    Args:
        help_texts: read the docstrings. Otherwise the help texts are empty.
    """
    docs = field_docs(options) if help_texts else {}
    types, hints = declared_types(options), getattr(options, "HINTS", {})
    for name in (field.name for field in fields(options)):
        kind, text = types[name], " ".join(filter(None, (docs.get(name), hints.get(name))))
        help_text = (text or None) if help_texts else ""
        shown = tyro.conf.arg(help=help_text, help_behavior_hint=default_hint, metavar=metavar_of(kind))
        options.__annotations__[name] = Annotated[kind, shown]
        if isinstance(kind, type) and is_dataclass(kind):
            annotate(kind, help_texts)


@functools.cache
def declared_types(options: type) -> dict[str, Any]:
    """Return the types of the fields as they were before `annotate`."""
    return get_type_hints(options, include_extras=True)


def metavar_of(kind: Any) -> str | None:
    """Return how the help shows the value of a flag, without None; None leaves it to tyro."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    choices = [part for part in get_args(kind) if get_origin(part) is Literal]
    if NoneType in get_args(kind) and choices:
        return "{" + ",".join(map(str, get_args(choices[0]))) + "}"
    return METAVARS.get(kind)


def default_hint(default: str) -> str:
    """Return "(default: ...)". The help text of a flag without a fixed default describes the default itself."""
    return f"(default: {default})" if default not in ("", "''", "None") else ""
