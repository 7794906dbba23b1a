"""Parse JSON that may come from an untrusted source."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 100
"""Most levels of lists and objects. Functions that walk through JSON may use a few calls for each level."""


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Raises:
        ValueError: the text is not JSON, or is nested deeper than `DEEPEST` levels.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested too deeply, more than {DEEPEST} levels") from error
    level = [content]
    for _ in range(DEEPEST + 1):
        level = [
            item
            for part in level
            if isinstance(part, dict | list)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return content
    raise ValueError(f"nested too deeply, more than {DEEPEST} levels")
