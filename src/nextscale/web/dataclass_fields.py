"""Create request fields from dataclasses, so that each setting is declared only once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BeforeValidator, Field

from nextscale.io.field_docs import field_docs
from nextscale.sampling.settings import PerScale

LARGEST_INTEGER = 2**53 - 1
"""The largest exact integer in JavaScript."""

DataclassT = TypeVar("DataclassT")


def whole(value: Any) -> Any:
    """Convert ``2.0`` and ``1e3`` to integers, which they are in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)


def pydantic_fields(config: Any, skip: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass for `pydantic.create_model`.

    Types and descriptions are those of the dataclass, bounds are ``least`` and ``most`` of each field's metadata.

    Args:
        config: an instance; its values are the defaults.
        skip: names of fields to skip.
    """
    types, docs = get_type_hints(type(config)), field_docs(type(config))
    made: dict[str, Any] = {}
    for field in fields(config):
        kind, known = types[field.name], field.metadata
        if kind == PerScale:
            kind = float  # a request sets one number for all scales
        more: list[Any] = []
        limits = {rule: known[name] for rule, name in (("ge", "least"), ("le", "most")) if name in known}
        if kind is float:
            limits["allow_inf_nan"] = False
        if kind in (int, int | None):
            limits.setdefault("le", LARGEST_INTEGER)
            more.append(WHOLE)
        annotated = Annotated[(kind, Field(description=docs.get(field.name), **limits), *more)]  # type: ignore[valid-type]
        made[field.name] = (annotated, getattr(config, field.name))
    return {name: field for name, field in made.items() if name not in skip}


def dataclass_of(kind: type[DataclassT], source: Any, **others: Any) -> DataclassT:
    """Make a dataclass from the attributes of ``source`` with the same names; ``others`` take precedence."""
    names = [field.name for field in fields(kind) if field.name not in others]  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names}, **others)
