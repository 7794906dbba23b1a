"""`SamplingSettings` as flags without defaults: the defaults depend on the model, which is not loaded yet."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass
from typing import Any, get_type_hints

from nextscale.sampling.settings import SamplingSettings, default_of


def flags_of(kind: type[SamplingSettings]) -> type[Any]:
    """Return a dataclass with the fields of the settings, None by default. Switches keep their default."""
    types = get_type_hints(kind)
    optional = [
        (f.name, types[f.name], field(default=f.default))
        if types[f.name] is bool
        else (f.name, types[f.name] | None, field(default=None))
        for f in fields(kind)
    ]
    hints = {f.name: default_of(f.name) for f in fields(kind) if types[f.name] is not bool}
    more = {"__post_init__": check, "__doc__": "How tokens are sampled.", "HINTS": hints}
    return make_dataclass("SettingsFlags", optional, bases=(kind,), frozen=True, namespace=more)


def check(flags: Any) -> None:
    """Check the flags that are given."""
    SamplingSettings(**given(flags))


def given(flags: Any) -> dict[str, Any]:
    """Return the settings whose flags are given."""
    return {name: value for name, value in vars(flags).items() if value is not None and value is not False}


SettingsFlags = flags_of(SamplingSettings)
