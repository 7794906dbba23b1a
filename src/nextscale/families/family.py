"""A family of models as data: what the pipeline, the loader and the trainer need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nextscale.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class PublishedModel:
    """Official weights on the hub, their configuration and their published results.

    The results are FID, Inception Score, precision and recall of 50,000 ImageNet samples by the ADM evaluator, with
    cfg 1.5, top-k 900, top-p 0.96, as the authors' code page states them; None where it states none.
    """

    file: str
    model: Any
    """The transformer's configuration."""
    tokenizer: Any
    """The tokenizer's configuration."""
    fid: float
    inception_score: float
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Family:
    """One family of models."""

    name: str
    media: Literal["image", "video"]
    tokenizer: Any
    """The tokenizer's class, with ``from_pretrained``."""
    transformer: Any
    """The transformer's class, with ``from_pretrained``."""
    transformer_config: Any
    """The class of its configuration."""
    settings: SamplingSettings
    """Default settings of a pipeline."""
    repository: str
    """The hub's repository of the official weights."""
    tokenizer_file: str
    """The official tokenizer's file in the repository."""
    published: Mapping[str, PublishedModel]
    """Official models by name."""
    from_official: Callable[..., tuple[Any, Any]]
    """Official state dictionaries of tokenizer and transformer to our models."""
    to_official: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
    """The reverse."""
