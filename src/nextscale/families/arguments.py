"""Types of the arguments of `nextscale.pipeline.Pipeline`, whose users may not check types themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.families.family import Family
from nextscale.sampling.settings import SamplingSettings
from nextscale.sampling.token_edit import TokenEdit


def check_parts(
    family: Family, class_names: object, encoder: object, settings: object, switches: Mapping[str, object]
) -> None:
    """Raise InputError unless arguments of a pipeline's constructor are of the right type, and for its family."""
    if isinstance(class_names, str | bytes) or not isinstance(class_names, Sequence | None):
        raise InputError(f"class_names are a list of texts, not {brief(class_names)}")
    if family.takes == "class" and encoder != "":
        raise InputError("this model takes class labels: a text encoder is for text-to-image models")
    if not isinstance(encoder, str | Path) and not callable(getattr(encoder, "encode", None)):
        raise InputError(f"text_encoder is an encoder, or the folder or name of one, not {brief(encoder)}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, not {brief(value)}")
    for name in ("tiles", "compile") if family.media == "video" else ():
        if switches[name]:
            raise InputError(f"{name} is for models that generate images, not videos")
    if switches["cuda_graph"] and family.takes == "prompt":
        raise InputError("cuda_graph is for class-conditional models: prompts have different lengths")
    check_call(None, None, settings, {})


def check_call(
    num_images: object, schedule: object, settings: object, hooks: Mapping[str, Any], own: object = None
) -> None:
    """Raise InputError unless arguments of a pipeline's call, which may be None, are of the right type.

    Args:
        own: the model's schedule.
    """
    edit, processor = hooks.get("edit"), hooks.get("logits_processor")
    if num_images is not None and (type(num_images) is not int or num_images < 1):
        raise InputError(f"num_images must be an integer of at least 1, not {brief(num_images)}")
    if schedule is not None and not isinstance(schedule, type(own)):
        raise InputError(f"schedule is a {type(own).__name__}, not {brief(schedule)}")
    if settings is not None and not isinstance(settings, SamplingSettings):
        raise InputError(f"settings are SamplingSettings, not {brief(settings)}")
    if edit is not None and not isinstance(edit, TokenEdit):
        raise InputError(f"edit is a TokenEdit, not {brief(edit)}")
    if processor is not None and not callable(processor):
        raise InputError(f"logits_processor is a function, not {brief(processor)}")


def take_wanted(family: Family, labels: Any, arguments: dict[str, Any]) -> Any:
    """Take ``prompt`` from the arguments of a call: another name for the labels of models that take prompts."""
    prompt = arguments.pop("prompt", None)
    if prompt is None:
        return labels
    if family.takes == "class":
        raise InputError("prompt is for text-to-image models: this one takes class labels")
    if labels is not None:
        raise InputError("expected labels or prompt, got both")
    return prompt


def count_of(wanted: object, num_images: int | None) -> int:
    """Return the number of images of a call, as far as it is known before its labels or prompts are parsed."""
    if num_images is not None:
        return num_images
    return len(wanted) if isinstance(wanted, Sized) and not isinstance(wanted, str) else 1
