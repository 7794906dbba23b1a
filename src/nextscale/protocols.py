"""The interfaces of tokenizers, transformers and guidance that the sampler, trainer and pipeline use.

VAR, Infinity and InfinityStar implement them differently. Nothing here names a family.

Notation: B images, n tokens of a visit, D numbers per code vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from nextscale.scales.schedule import Visit

if TYPE_CHECKING:
    from typing_extensions import Self

Schedule: TypeAlias = Any
"""`nextscale.scales.schedule.ScaleSchedule`, or `nextscale.scales.spacetime.SpacetimeSchedule` for video models."""


class Quantizer(Protocol):
    """Continuous vectors to tokens and back. A codebook has token shape () and V choices, d bits have (d,) and 2."""

    @property
    def token_dtype(self) -> torch.dtype:
        """Type of tokens, int64 or bool."""
        ...

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one token."""
        ...

    @property
    def choices(self) -> int:
        """Number of values of each entry of a token, the size of the last axis of logits."""
        ...

    def nearest(self, x: Tensor, /) -> Tensor:
        """Quantize. (B, n, D) -> tokens (B, n, *token_shape)."""
        ...

    def codes(self, tokens: Tensor, /) -> Tensor:
        """Look up code vectors. (B, n, *token_shape) -> (B, n, D)."""
        ...

    def mix(self, weights: Tensor, /) -> Tensor:
        """Mean code vectors under weights over the choices. (B, n, *token_shape, choices) -> (B, n, D)."""
        ...


class Pyramid(Protocol):
    """Token maps on a canvas; see `nextscale.tokenizer.pyramid.ResidualPyramid`."""

    @property
    def codebook(self) -> Quantizer: ...

    def quantizer(self, visit: Visit, /) -> Quantizer: ...

    def empty_canvas(
        self, batch: int, device: torch.device | None = None, schedule: Schedule | None = None, /
    ) -> Tensor: ...

    def look(self, canvas: Tensor, visit: Visit, /) -> Tensor: ...

    def walk(
        self, choose: Callable[[Visit, Tensor], Tensor], canvas: Tensor, schedule: Schedule | None = None, /
    ) -> Iterator[Any]: ...

    def canvas(self, tokens: Sequence[Tensor], schedule: Schedule | None = None, /) -> Tensor: ...


class Module(Protocol):
    """The part of `torch.nn.Module` that a pipeline uses."""

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def to(self, device: torch.device, /) -> Self: ...

    def eval(self) -> Self: ...


class Tokenizer(Module, Protocol):
    """Images to token pyramids and back; see `nextscale.tokenizer.tokenizer.ImageTokenizer`."""

    @property
    def config(self) -> Any: ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def pyramid(self) -> Pyramid: ...

    def decode_canvas(self, canvas: Tensor, /) -> Tensor:
        """(B, D, h, w) -> images (B, 3, H, W) in [-1, 1]."""
        ...

    def check_tokens(
        self, tokens: Sequence[Tensor], schedule: Schedule | None = None, partial: bool = False, /
    ) -> Sequence[Tensor]: ...

    def schedule_or_own(self, schedule: Schedule | None, /) -> Schedule: ...


class Conditioner(Protocol):
    """Class labels or prompts as batches; see `nextscale.conditioning.classes.ClassConditioner`."""

    def count(self, requests: Any, num_images: int | None, /) -> int:
        """The batch size B."""
        ...

    def parse(self, requests: Any, streams: Any, /) -> Any:
        """A batch of conditions on the sampler's device."""
        ...

    def unconditional(self, conditions: Any, /) -> Any:
        """Return an unconditional condition for each condition."""
        ...

    def join(self, first: Any, second: Any, /) -> Any:
        """Two batches as one."""
        ...

    def drop(self, conditions: Any, mask: Tensor, /) -> Any:
        """Replace the selected conditions with unconditional ones."""
        ...


class Transformer(Module, Protocol):
    """Conditions and canvases to logits; see `nextscale.transformer.var.VAR`."""

    @property
    def config(self) -> Any: ...

    @property
    def conditioner(self) -> Conditioner: ...

    @property
    def device(self) -> torch.device: ...

    def condition(self, conditions: Any, /) -> Any:
        """All tensors that depend on the condition alone. They are computed once per image."""
        ...

    def make_cache(self, schedule: Schedule, batch: int, /) -> Any:
        """An empty cache of keys and values."""
        ...

    def guidance_weights(self, cfg: Any, schedule: Schedule, /) -> tuple[float, ...]:
        """The weight t of each visit for ``cfg``, one number or one for each visit."""
        ...

    @property
    def tokenizer_fields(self) -> Mapping[str, Any]:
        """Fields of the tokenizer's configuration that the model depends on, and their values."""
        ...

    def forward_scale(
        self, visit: Visit, inputs: Tensor | None, condition: Any, cache: Any, /, *args: Any, **hooks: Any
    ) -> Tensor:
        """Features (B, n, C) of one visit, given the earlier ones through the cache.

        Models that can be guided inside take the hook ``after_block``, see `AfterBlock`.
        """
        ...

    def logits(self, features: Tensor, visit: Visit, /) -> Tensor:
        """The head. (B, n, C) -> (B, n, *token_shape, choices) float32."""
        ...


@runtime_checkable
class Guidance(Protocol):
    """Combines the conditional and the unconditional prediction of a visit.

    The sampler combines logits. If ``is_linear`` is true and the head is linear, it combines the features before the
    head instead, which costs half as much. A strategy with ``after_temperature = True`` gets logits that are divided by
    the temperature.
    """

    @property
    def is_linear(self) -> bool:
        """Whether `combine` is a weighted sum whose weights add up to 1."""
        ...

    def needs_unconditional(self, visits: Sequence[Visit], /) -> bool:
        """Whether any of these visits is guided."""
        ...

    def combine(self, conditional: Tensor, unconditional: Tensor, visit: Visit, /) -> Tensor:
        """Two predictions of the same shape (B, n, ...) as one."""
        ...


LogitsProcessor = Callable[[Tensor, Visit], Tensor]
"""(logits (B, n, *token_shape, choices) after guidance, visit) -> logits of the same shape. -inf excludes a choice."""

AfterBlock = Callable[[Tensor, int], Tensor]
"""(x (B, n, C) after a block, index of the block) -> its replacement."""

GuidanceSchedule = Callable[[Visit], float]
"""The guidance weight t of a visit: (1 + t) * conditional - t * unconditional."""
