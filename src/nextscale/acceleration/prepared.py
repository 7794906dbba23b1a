"""The models of a pipeline, prepared for sampling: kept between calls, or prepared and freed in each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from nextscale.acceleration.compiled import compile_parts
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import make_ready
from nextscale.errors import InputError


@dataclass(frozen=True)
class Preparation:
    """How models are prepared; see `nextscale.pipeline.Pipeline`.

    Raises:
        InputError: an option needs another device, or two options exclude each other.
    """

    precision: Precision
    device: torch.device
    compile: bool = False
    cuda_graph: bool = False
    offload: bool = False
    tiles: bool = False

    def __post_init__(self) -> None:
        for option in ("compile", "cuda_graph"):
            if getattr(self, option) and self.device.type != "cuda":
                raise InputError(f"{option} needs a CUDA GPU, not {self.device}")
        for first, second in (("offload", "compile"), ("offload", "cuda_graph"), ("tiles", "compile")):
            if getattr(self, first) and getattr(self, second):
                raise InputError(f"{first} cannot be combined with {second}")

    @property
    def home(self) -> torch.device:
        """Where the weights are."""
        return torch.device("cpu") if self.offload else self.device

    def of(self, tokenizer: Any, model: Any) -> PreparedModels:
        """Return models that will be prepared when they are used."""
        if not self.offload:
            return KeptModels(tokenizer, model, self)
        from nextscale.acceleration.offload import OffloadedModels  # most pipelines keep their models

        return OffloadedModels(tokenizer, model, self.precision, self.device, self.tiles)


class PreparedModels(Protocol):
    """A tokenizer and a transformer for sampling."""

    @property
    def is_ready(self) -> bool:
        """Whether they are in memory, and stay there."""
        ...

    def get(self) -> tuple[Any, Any]:
        """Return both. What the transformer needs exists as long as the caller keeps it."""
        ...

    def decoder(self) -> Any:
        """Return a tokenizer for decoding. What it needs exists as long as the caller keeps it."""
        ...


@dataclass
class KeptModels:
    """Models that are prepared when they are used first, and again when their weights have changed."""

    tokenizer: Any
    model: Any
    preparation: Preparation
    recorded: dict[Any, Any] = field(default_factory=dict)
    """Samplers that were recorded with the prepared models."""
    _ready: tuple[list[tuple[int, int]], tuple[Any, Any]] | None = None

    @property
    def is_ready(self) -> bool:
        return self._ready is not None

    def get(self) -> tuple[Any, Any]:
        weights = [p for module in (self.tokenizer, self.model) for p in module.parameters()]
        versions = [(id(p), p._version) for p in weights]
        if self._ready is None or self._ready[0] != versions:
            self._ready = None  # frees the old copy before there is a new one
            self.recorded.clear()
            parts = make_ready(self.tokenizer, self.model, self.preparation.precision, self.preparation.tiles)
            if self.preparation.compile:
                compile_parts(*parts)
            self._ready = versions, parts
        return self._ready[1]

    def decoder(self) -> Any:
        return self.get()[0]
