"""Lists of numbers as values of flags: separated by spaces, as tyro takes them, or by commas, as in official code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nextscale.errors import InputError, brief
from nextscale.sampling.settings import PerScale

KINDS: dict[Any, tuple[type[int] | type[float], str]] = {
    tuple[int, ...]: (int, "one or more integers"),
    tuple[float, ...]: (float, "one or more numbers"),
    PerScale: (float, "one number, or one for each scale"),
}
"""Types of fields, with the type of their numbers and what a message calls them."""


def number_flags(options: type) -> dict[str, tuple[type[int] | type[float], str]]:
    """Return the flags that take lists of numbers, with an entry of `KINDS`."""
    flags: dict[str, tuple[type[int] | type[float], str]] = {}
    types = get_type_hints(options)
    for field in fields(options):
        kind = without_none(types[field.name])
        if is_dataclass(kind):
            flags |= number_flags(kind)  # type: ignore[arg-type]
        elif kind in KINDS:
            flags[f"--{field.name.replace('_', '-')}"] = KINDS[kind]
    return flags


def without_none(kind: Any) -> Any:
    """Return a type without None as one of its values."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return Union[tuple(part for part in get_args(kind) if part is not NoneType)]  # noqa: UP007


def split_lists(options: type, arguments: Sequence[str]) -> list[str]:
    """Return arguments with one word for each number of a list: ``--cfg 3,3,2`` becomes ``--cfg 3 3 2``.

    Raises:
        InputError: a value is not a number.
    """
    flags, words, current = number_flags(options), [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-") and not is_numbers(argument):
            current = name.replace("_", "-") if name.replace("_", "-") in flags else ""
            words += [name] if current and equals else [argument]
            if not (current and equals):
                continue
            argument = value
        words += numbers_of(argument, current, *flags[current]) if current else [argument]
    return words


def is_numbers(text: str) -> bool:
    """Return whether a word that begins with "-" is a negative number, or a list that begins with one."""
    return text[1:2].isdigit() or text[1:2] == "."


def numbers_of(text: str, flag: str, kind: type[int] | type[float], what: str) -> list[str]:
    """Return the numbers of a word such as ``3,3,2``."""
    numbers = [number.strip() for number in text.split(",")]
    try:
        for number in numbers:
            math.isnan(kind(number))
    except ValueError as error:
        raise InputError(f"{flag} takes {what}, separated by spaces or commas, not {brief(text)}") from error
    return numbers
