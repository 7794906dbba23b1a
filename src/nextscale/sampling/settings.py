"""Sampling settings: how tokens are chosen from logits, declared once for Python, CLI, API, studio and provenance."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args

from nextscale.errors import InputError, brief
from nextscale.io.config import LATER, as_record

PerScale = float | tuple[float, ...]
"""A number for all scales, or one for each scale."""

GuidanceName = Literal["cfg", "apg"]

LARGEST_CFG = 1000.0
LARGEST_TEMPERATURE = 1000.0
LEAST_TEMPERATURE = 1e-3


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are sampled. The defaults are the official settings for metrics; see also `FOR_IMAGES`.

    ``cfg`` and ``temperature`` may be lists with one value for each scale. For Infinity, a single ``cfg`` is the same
    at all scales, and 1 turns guidance off.

    Raises:
        InputError: A value is out of range.
    """

    cfg: PerScale = field(default=1.5, metadata={"least": -LARGEST_CFG, "most": LARGEST_CFG})
    """Strength of classifier-free guidance. It rises linearly from 0 at the first scale to this value at the last. 0
    turns it off. Use 1.5 for metrics, 4 for sharp images. Text-to-image models use this value at all scales, and 1
    turns it off."""
    temperature: PerScale = field(default=1.0, metadata={"least": LEAST_TEMPERATURE, "most": LARGEST_TEMPERATURE})
    """Divide logits by this number before top-k and top-p. 1 leaves them unchanged."""
    top_k: int = field(default=900, metadata={"least": 0})
    """Sample only from the k most probable tokens. 0 turns this off."""
    top_p: float = field(default=0.96, metadata={"least": 0.0, "most": 1.0})
    """Sample only from the most probable tokens that together reach probability p. 0 turns this off."""
    more_smooth: bool = False
    """Mix code vectors with Gumbel-softmax weights instead of sampling one token. Gives smoother images; not for
    metrics."""
    guidance_blocks: tuple[int, ...] = field(default=(), metadata=LATER)
    """Where guidance is applied: 0 for the logits, -1 for the features after the last block, -2 for those after the
    second-to-last block, and so on up to those after the second block. Several places are possible. Values below 0 are
    for Infinity models (text to image). Default: the logits."""
    guidance: GuidanceName = field(default="cfg", metadata=LATER)
    """How the predictions with and without a prompt are combined. cfg: classifier-free guidance (arXiv 2207.12598).
    apg: adaptive projected guidance (arXiv 2410.02416), which limits the difference of the predictions and adds only
    the part of it that is orthogonal to the prediction with the prompt."""
    clip_temperature: float | None = field(default=None, metadata=LATER)
    """For videos: temperature of everything after the first frame, where it replaces ``temperature``. A list for
    ``temperature`` has the values of all scales, and takes precedence."""

    def __post_init__(self) -> None:
        for name in ("cfg", "temperature", "guidance_blocks"):
            if isinstance(value := getattr(self, name), list):  # JSON, Python
                object.__setattr__(self, name, tuple(value))
        for cfg in numbers(self.cfg):
            if not (is_number(cfg) and abs(cfg) <= LARGEST_CFG):
                raise InputError(
                    f"cfg must be a finite number between -{LARGEST_CFG:g} and {LARGEST_CFG:g}, not {brief(cfg)}"
                )
        if self.guidance not in get_args(GuidanceName):
            raise InputError(f"guidance is {' or '.join(get_args(GuidanceName))}, not {brief(self.guidance)}")
        clip = () if self.clip_temperature is None else (self.clip_temperature,)
        named = [("temperature", value) for value in numbers(self.temperature)]
        for name, temperature in (*named, *(("clip_temperature", value) for value in clip)):
            if not (is_number(temperature) and LEAST_TEMPERATURE <= temperature <= LARGEST_TEMPERATURE):
                raise InputError(
                    f"{name} must be a number between {LEAST_TEMPERATURE:g} and {LARGEST_TEMPERATURE:g}, "
                    f"not {brief(temperature)}"
                )
        if not (is_integer(self.top_k) and self.top_k >= 0):
            raise InputError(f"top-k must be 0 (off) or a positive integer, not {brief(self.top_k)}")
        if not (is_number(self.top_p) and 0 <= self.top_p <= 1):
            raise InputError(f"top-p must lie between 0 (off) and 1, not {brief(self.top_p)}")
        if not isinstance(self.more_smooth, bool):
            raise InputError(f"more_smooth must be true or false, not {brief(self.more_smooth)}")
        blocks = self.guidance_blocks
        if not isinstance(blocks, tuple) or not all(map(is_integer, blocks)):
            raise InputError(f"guidance_blocks are a list of integers, not {brief(blocks)}")

    def changed(self, **changes: Any) -> SamplingSettings:
        """These settings with other values for some fields.

        Raises:
            InputError: There is no setting of that name, or a value is out of range.
        """
        for name in changes:
            if name not in SETTINGS:
                close = difflib.get_close_matches(name, SETTINGS, n=1)
                hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(SETTINGS)}"
                raise InputError(f"unknown sampling setting {name!r}: {hint}")
        return replace(self, **changes)

    def temperatures(self, num_scales: int, clips: int = 1) -> tuple[float, ...]:
        """Return the temperature of each scale.

        Args:
            num_scales: number of scales of all clips.
            clips: number of clips, of which the first is the first frame.
        """
        values = per_scale(self.temperature, num_scales, "temperature")
        if self.clip_temperature is None or isinstance(self.temperature, tuple):
            return values
        first = num_scales // clips
        return values[:first] + (self.clip_temperature,) * (num_scales - first)

    def record(self) -> dict[str, Any]:
        """The settings as plain JSON values, without a temperature of 1 and without empty ``guidance_blocks``: older
        files have none."""
        cfg = list(map(float, self.cfg)) if isinstance(self.cfg, tuple) else float(self.cfg)
        values = as_record(self) | {"cfg": cfg, "top_k": int(self.top_k), "top_p": float(self.top_p)}
        if self.temperature == 1:
            del values["temperature"]
        return values


def numbers(value: PerScale) -> tuple[Any, ...]:
    """The values of a setting, whether it is one number or one for each scale."""
    return value if isinstance(value, tuple) else (value,)


def per_scale(value: PerScale, num_scales: int, name: str) -> tuple[float, ...]:
    """A setting for each scale.

    Raises:
        InputError: There are several numbers, but not as many as scales.
    """
    if not isinstance(value, tuple):
        return (value,) * num_scales
    if len(value) != num_scales:
        raise InputError(f"expected one {name}, or one for each of the {num_scales} scales, got {len(value)}")
    return value


SETTINGS = tuple(f.name for f in fields(SamplingSettings))

METRICS = SamplingSettings()
"""Defaults of `sample`, `sample_scales` and evaluation: the official settings for metrics."""

FOR_IMAGES = SamplingSettings(cfg=4.0, top_p=0.95)
"""Defaults of the pipeline, the command line, the API and the studio: images look better, metrics get worse."""

FOR_PROMPTS = SamplingSettings(cfg=3.0, temperature=0.5, top_p=0.97)
"""The same for text-to-image models: the official settings of Infinity 2B."""

FOR_VIDEOS = SamplingSettings(cfg=34.0, top_k=0, top_p=0.0, guidance="apg", clip_temperature=0.4)
"""The same for video models: the official settings of InfinityStar."""


def default_of(name: str) -> str:
    """The note about lists and the default of a setting, for help and schemas; empty if the setting is off by
    default."""
    images, prompts, videos = (getattr(settings, name) for settings in (FOR_IMAGES, FOR_PROMPTS, FOR_VIDEOS))
    note = "A list has one value for each scale, such as 3,3,2. " if name in ("cfg", "temperature") else ""
    if images == prompts == videos:
        return "" if images == () else f"{note}(default: {images})"
    if images is None:
        return f"(default of video models: {videos})"
    of_prompts = "" if images == prompts else f"; text-to-image models: {prompts}"
    of_videos = "" if videos == images else f"; video models: {videos}"
    return f"{note}(default: {images}{of_prompts}{of_videos})"


def take_settings(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a flat record into (settings, everything else)."""
    settings = {name: value for name, value in record.items() if name in SETTINGS}
    return settings, {name: value for name, value in record.items() if name not in SETTINGS}
