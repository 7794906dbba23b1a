"""Parse the flags of a verb into its dataclass."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

import tyro

from nextscale.errors import InputError
from nextscale.io.field_docs import field_docs


def parse(options: type, verb: str, arguments: list[str]) -> Any:
    """Parse the flags of a verb.

    Raises:
        InputError: from the checks of a dataclass. tyro would print it in a box with unrelated text.
    """
    config, said = (tyro.conf.OmitArgPrefixes,), io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(with_help(options), prog=f"nextscale {verb}", args=arguments, config=config)
    except SystemExit as stop:
        error: BaseException | None = stop
        while error is not None and not isinstance(error, InputError):
            error = error.__context__
        if error is not None:
            raise InputError(str(error)) from error
        print(said.getvalue(), end="", file=sys.stderr)
        raise


def with_help(options: type) -> type:
    """Use the docstrings of a dataclass's fields as help texts. tyro itself would keep their line breaks."""
    docs, types = field_docs(options), get_type_hints(options)
    for field in fields(options):
        if field.name in docs:
            field.metadata = MappingProxyType({**field.metadata, "help": docs[field.name]})
        if is_dataclass(types[field.name]):
            with_help(types[field.name])
    return options
