"""A recipe with some of its numbers changed: ``adversarial.weight=0.2``, ``model.channels=64``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextscale.errors import InputError
from nextscale.io.config import as_config
from nextscale.io.files import read_json
from nextscale.scales.schedule import ScaleSchedule
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.recipes import RecipeT


def find_recipe(presets: dict[str, RecipeT], name: str) -> RecipeT:
    """A preset by name, or the recipe in a file: JSON with its fields, such as the ``recipe.json`` of a run.

    Raises:
        InputError: there is none of that name, or the file holds no such recipe.
    """
    if name in presets:
        return presets[name]
    if not name.endswith(".json"):
        raise InputError(f"unknown preset {name!r}: expected one of {', '.join(presets)}, or a .json file")
    content = read_json(Path(name))
    if isinstance(content, dict) and isinstance(content.get("recipe"), dict):
        content = content["recipe"]
    return as_config(type(next(iter(presets.values()))), content)


def override(recipe: RecipeT, settings: Sequence[str]) -> RecipeT:
    """The recipe with each ``name=value``; dots lead into its parts, values are written as in JSON.

    Raises:
        InputError: no such name, or a value that does not fit.
    """
    if not settings:
        return recipe
    fields = json.loads(json.dumps(dataclasses.asdict(recipe)))
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"a setting is written name=value, not {setting!r}")
        *way, last = name.split(".")
        part: Any = fields
        for step in way:
            if step == "adversarial" and part.get(step, False) is None:
                part[step] = json.loads(json.dumps(dataclasses.asdict(AdversarialRecipe())))
            part = part.get(step) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            known = ", ".join(sorted(part)) if isinstance(part, dict) else "no parts"
            raise InputError(f"the recipe has no {name!r}: {'.'.join(way) or 'it'} has {known}")
        part[last] = dataclasses.asdict(ScaleSchedule.parse(text)) if name == "model.schedule" else parse(text)
    return as_config(type(recipe), fields)


def parse(text: str) -> Any:
    """A JSON value; what is none is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text
