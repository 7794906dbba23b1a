"""Types of the arguments of `nextscale.pipeline.Pipeline`, whose users may not check types themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.sampling.settings import SamplingSettings
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.schedule import ScaleSchedule


def check_parts(
    takes: str, class_names: object, encoder: object, settings: object, switches: Mapping[str, object]
) -> None:
    """Raise InputError unless arguments of a pipeline's constructor are of the right type.

    Args:
        takes: see `nextscale.families.requests.Requests.takes`.
    """
    if isinstance(class_names, str | bytes) or not isinstance(class_names, Sequence | None):
        raise InputError(f"class_names are a list of texts, not {brief(class_names)}")
    if takes == "class" and encoder != "":
        raise InputError("this model takes class labels: a text encoder is for text-to-image models")
    if not isinstance(encoder, str | Path) and not callable(getattr(encoder, "encode", None)):
        raise InputError(f"text_encoder is an encoder, or the folder or name of one, not {brief(encoder)}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, not {brief(value)}")
    check_call(None, None, settings, {})


def check_call(num_images: object, schedule: object, settings: object, hooks: Mapping[str, Any]) -> None:
    """Raise InputError unless arguments of a pipeline's call, which may be None, are of the right type."""
    edit, processor = hooks.get("edit"), hooks.get("logits_processor")
    if num_images is not None and (type(num_images) is not int or num_images < 1):
        raise InputError(f"num_images must be an integer of at least 1, not {brief(num_images)}")
    if schedule is not None and not isinstance(schedule, ScaleSchedule):
        raise InputError(f"schedule is a ScaleSchedule, not {brief(schedule)}")
    if settings is not None and not isinstance(settings, SamplingSettings):
        raise InputError(f"settings are SamplingSettings, not {brief(settings)}")
    if edit is not None and not isinstance(edit, TokenEdit):
        raise InputError(f"edit is a TokenEdit, not {brief(edit)}")
    if processor is not None and not callable(processor):
        raise InputError(f"logits_processor is a function, not {brief(processor)}")
