"""Create request fields from dataclasses, so that each setting is declared only once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BeforeValidator, Field, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator

from nextscale.io.field_docs import field_docs
from nextscale.sampling.settings import PerScale

LARGEST_INTEGER = 2**53 - 1
"""The largest exact integer in JavaScript."""

DataclassT = TypeVar("DataclassT")


def whole(value: Any) -> Any:
    """Convert ``2.0`` and ``1e3`` to integers, which they are in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)


def numbers_in(text: str) -> list[str]:
    """Split a list of numbers in a form, ``1,2,3`` or ``[1, 2, 3]``."""
    return text.strip().removeprefix("[").removesuffix("]").split(",")


def each(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Check a number, or every number of a list."""
    if isinstance(value, str) and ("," in value or value.startswith("[")):
        value = numbers_in(value)
    return tuple(map(check, value)) if isinstance(value, list) else check(value)


def split(value: Any) -> Any:
    """Convert a text in a form, or a list that contains it, to a list of numbers."""
    texts = value if isinstance(value, list) else [value]
    return numbers_in(texts[0]) if len(texts) == 1 and isinstance(texts[0], str) else value


def pydantic_fields(
    config: Any, skip: Collection[str] = (), unset: Callable[[str], str] | None = None
) -> dict[str, Any]:
    """Return the fields of a dataclass for `pydantic.create_model`.

    Types and descriptions are those of the dataclass, bounds are ``least`` and ``most`` of each field's metadata.

    Args:
        config: an instance; its values are the defaults.
        skip: names of fields to skip.
        unset: function of the name of a field that returns a note about its default. The default is then None, for a
            field that is not given.
    """
    types, docs = get_type_hints(type(config)), field_docs(type(config))
    made: dict[str, Any] = {}
    for field in fields(config):
        kind, known = types[field.name], field.metadata
        more: list[Any] = []
        is_per_scale = kind == PerScale
        if is_per_scale:
            kind = float
        if kind == tuple[int, ...]:
            kind, more = list[Annotated[int, WHOLE]], [BeforeValidator(split)]
        limits = {rule: known[name] for rule, name in (("ge", "least"), ("le", "most")) if name in known}
        if kind is float:
            limits["allow_inf_nan"] = False
        if kind in (int, int | None):
            limits.setdefault("le", LARGEST_INTEGER)
            more.append(WHOLE)
        if is_per_scale:
            names = {"ge": "minimum", "le": "maximum"}
            number = {"type": "number", **{names[rule]: limit for rule, limit in limits.items() if rule in names}}
            more += [WrapValidator(each), WithJsonSchema({"anyOf": [number, {"type": "array", "items": number}]})]
        doc = " ".join(filter(None, (docs.get(field.name), unset and unset(field.name))))
        annotated: Any = Annotated[(kind, Field(**limits), *more)]  # type: ignore[valid-type]
        annotated = Annotated[annotated if unset is None else annotated | None, Field(description=doc or None)]
        made[field.name] = (annotated, getattr(config, field.name) if unset is None else None)
    return {name: field for name, field in made.items() if name not in skip}


def dataclass_of(kind: type[DataclassT], source: Any, **others: Any) -> DataclassT:
    """Make a dataclass from the attributes of ``source`` with the same names; ``others`` take precedence."""
    names = [field.name for field in fields(kind) if field.name not in others]  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names}, **others)
