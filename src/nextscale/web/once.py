"""Reject requests that give a field more than once, because only one value would be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import FormData

from nextscale.web.errors import FieldError
from nextscale.web.schemas import one_name


def check_form(form: FormData) -> None:
    """Raise FieldError if a form contains a field more than once; ``image`` and ``image[]`` are the same field."""
    check_names(one_name(name) for name, _ in form.multi_items())


def check_json(body: bytes) -> None:
    """Raise FieldError if an object in a JSON text contains a key more than once."""

    def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check_names(name for name, _ in pairs)
        return dict(pairs)

    json.loads(body, object_pairs_hook=keys_once)


def check_names(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            short = name[:100]
            raise FieldError(short, f"{short} is given {count} times: expected once")
