"""Create config dataclasses from JSON, and check their fields."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from nextscale.errors import InputError, brief

ConfigT = TypeVar("ConfigT")

LARGEST = 2**63 - 1
"""The largest integer of a field without another bound."""
LARGEST_WIDTH, LARGEST_TABLE = 2**17, 2**24
"""Bounds for widths of layers, and for the rows of a table (codes, classes). Damaged files have larger numbers."""


def as_config(kind: type[ConfigT], value: ConfigT | Mapping[str, Any]) -> ConfigT:
    """Return a config dataclass from an instance of it, or from a JSON object.

    Raises:
        InputError: ``value`` is not an object, or has unknown, missing or invalid fields.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{kind.__name__} must be an object with named fields, not {brief(value)}")
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(value) - names:
        raise InputError(
            f"{kind.__name__} has no field {', '.join(sorted(unknown))[:100]}; it has {', '.join(sorted(names))}"
        )
    if missing := [name for name in required_fields(kind) if name not in value]:
        raise InputError(f"{kind.__name__} lacks {', '.join(missing)}")
    try:
        return kind(**value)
    except (TypeError, ArithmeticError) as error:
        raise InputError(f"{kind.__name__} cannot be made from {brief(dict(value))}: {error}") from error


LATER = {"later": True}
"""Metadata of a field that older versions do not have."""


def as_record(config: Any) -> dict[str, Any]:
    """Return a config dataclass as a JSON object, nested ones included.

    Fields with the metadata `LATER` are left out while they have their default, so that records of older versions
    compare equal.
    """
    record: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not (field.metadata.get("later") and value == field.default):
            record[field.name] = as_record(value) if dataclasses.is_dataclass(value) else value
    return record


def required_fields(kind: type) -> list[str]:
    """Return the names of a dataclass's fields without a default."""
    nothing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(kind) if f.default is nothing and f.default_factory is nothing]


def check_fields(config: Any) -> None:
    """Check the type and range of each field of a config dataclass.

    An int must be at least 1 and at most `LARGEST`. A float must be finite. A tuple of ints must be non-empty with
    items of at least 1. Both floats of a pair must lie in [0, 1). ``least`` and ``most`` in the metadata of a field set
    other bounds; for a tuple of ints, ``most`` bounds its items and ``longest`` their number.

    Raises:
        InputError: a field has another type, or lies outside its bounds.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), kinds[field.name]
        if kind is int:
            least, most = field.metadata.get("least", 1), field.metadata.get("most", LARGEST)
            if not _is_count(value, least):
                raise InputError(f"{field.name} must be an integer of at least {least}, not {brief(value)}")
            if value > most:
                raise InputError(f"{field.name} must be an integer of at most {most:,}, not {brief(value)}")
        if kind is str and not isinstance(value, str):
            raise InputError(f"{field.name} must be a text, not {brief(value)}")
        if kind is bool and not isinstance(value, bool):
            raise InputError(f"{field.name} must be true or false, not {brief(value)}")
        if kind is float:
            low, high = field.metadata.get("least", -math.inf), field.metadata.get("most", math.inf)
            if not (_is_number(value) and low <= value <= high):
                raise InputError(f"{field.name} must be a finite number{_range(low, high)}, not {brief(value)}")
        if kind == tuple[int, ...]:
            most, longest = field.metadata.get("most", LARGEST), field.metadata.get("longest", math.inf)
            if not (isinstance(value, tuple) and value and all(_is_count(item, 1) for item in value)):
                raise InputError(f"{field.name} must be one or more integers of at least 1, not {brief(value)}")
            if len(value) > longest:
                raise InputError(f"{field.name} must be at most {longest} integers, not {len(value):,}")
            if max(value) > most:
                raise InputError(f"{field.name} must be integers of at most {most:,}, not {brief(max(value))}")
        if kind == tuple[float, float] and not (
            isinstance(value, tuple) and len(value) == 2 and all(_is_number(item) and 0 <= item < 1 for item in value)
        ):
            raise InputError(f"{field.name} must be two numbers of at least 0 and below 1, not {brief(value)}")


def _range(low: float, high: float) -> str:
    """Return the range of a number, for a message; empty without bounds."""
    if math.isfinite(low) and math.isfinite(high):
        return f" from {low:g} to {high:g}"
    if math.isfinite(high):
        return f" of at most {high:g}"
    return f" of at least {low:g}" if math.isfinite(low) else ""


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the floating-point numbers
        return False
