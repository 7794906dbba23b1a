"""Change fields of a recipe, by keyword or by texts such as ``model.channels=64`` from the command line."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nextscale.errors import InputError
from nextscale.io.files import read_json
from nextscale.io.json_text import parse_json
from nextscale.io.module_folder import as_config
from nextscale.scales.schedule import ScaleSchedule
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.recipes import RecipeT, TextRecipe, VideoRecipe, WordsRecipe

T = TypeVar("T")
PARTS: dict[str, Any] = {
    "adversarial": AdversarialRecipe,
    "text": TextRecipe,
    "video": VideoRecipe,
    "words": WordsRecipe,
}
"""Parts of recipes that may be None. A change of one of their fields makes them."""


def find_recipe(presets: Mapping[str, RecipeT], name: str) -> RecipeT:
    """Return a preset by name, or the recipe in a JSON file such as ``recipe.json`` of a run.

    Raises:
        InputError: the name is unknown, or the file does not hold a recipe of this kind.
    """
    if name in presets:
        return presets[name]
    if not name.endswith(".json"):
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(presets)}, or a .json file")
    content = read_json(Path(name))
    if isinstance(content, dict) and isinstance(content.get("recipe"), dict):
        content = content["recipe"]
    return as_config(type(next(iter(presets.values()))), content)


def with_changes(recipe: T, changes: Mapping[str, Any]) -> T:
    """Return a dataclass with some fields changed. A mapping changes fields of a part and keeps the others.

    Example: ``with_changes(recipe, {"steps": 100, "model": {"channels": 64}, "adversarial": None})``.

    Raises:
        InputError: a name is unknown, or a value does not fit.
    """
    if not dataclasses.is_dataclass(recipe):
        raise InputError(f"a {type(recipe).__name__} has no fields to change, got {dict(changes)}")
    check_names(changes, [field.name for field in dataclasses.fields(recipe)], type(recipe).__name__)
    values = {}
    for name, value in changes.items():
        part = getattr(recipe, name)
        if part is None and name in PARTS:
            part = PARTS[name]()
        values[name] = with_changes(part, value) if isinstance(value, Mapping) else value
    return dataclasses.replace(recipe, **values)  # type: ignore[type-var]


def check_names(names: Iterable[str], known: Sequence[str], what: str) -> None:
    """Raise InputError for the first name that is not known. The message suggests similar names."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(sorted(known))}"
            raise InputError(f"{what} has no setting {name!r}: {hint}")


def override(recipe: RecipeT, settings: Sequence[str]) -> RecipeT:
    """Return the recipe with each ``name=value`` applied.

    Dots select fields of a part, such as ``model.channels``. Values are written as in JSON. Lists may also be written
    without brackets, such as ``model.multipliers=1,2,4``.

    Raises:
        InputError: a name is unknown, or a value does not fit.
    """
    if not settings:
        return recipe
    fields = json.loads(json.dumps(dataclasses.asdict(recipe)))
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"expected a setting as name=value, got {setting!r}")
        *path, last = name.split(".")
        part: Any = fields
        for step in path:
            if step in PARTS and isinstance(part, dict) and part.get(step, False) is None:
                part[step] = json.loads(json.dumps(dataclasses.asdict(PARTS[step]())))
            part = part.get(step) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            known = ", ".join(sorted(part)) if isinstance(part, dict) else "no fields"
            raise InputError(f"the recipe has no {name!r}: {'.'.join(path) or 'it'} has {known}")
        if name == "model.schedule":
            part[last] = dataclasses.asdict(ScaleSchedule.parse(text))
        else:
            part[last] = parse_list(text) if isinstance(part[last], list) else parse(text)
    return as_config(type(recipe), fields)


def parse(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def parse_list(text: str) -> Any:
    """Return the value of a JSON text, or the list of values that are separated by commas."""
    value = parse(text)
    return [parse(item.strip()) for item in text.split(",")] if isinstance(value, str) and "," in text else value
