"""The sampler: draw an image scale by scale (VAR, section 3.2).

`sample_scales` is a generator of `ScaleStep`s; everything that shows or stores images is a fold over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from nextscale.errors import InputError, brief
from nextscale.sampling.filters import top_k_top_p_filter
from nextscale.sampling.guidance import guidance_weight, guide
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.token_edit import TokenEdit
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

if TYPE_CHECKING:
    from typing_extensions import Unpack

Labels = Tensor | np.ndarray | Sequence[int] | str | None
"""Classes (B,), where num_classes means "no class"; or "unconditional", or None: drawn at random."""

LARGEST_CFG = 1000


class DrawingArguments(TypedDict, total=False):
    """Keyword arguments of everything that draws; `sample_scales` says what they mean."""

    num_images: int | None
    cfg: float
    top_k: int
    top_p: float
    seed: int | Sequence[int]
    more_smooth: bool


class SamplingArguments(DrawingArguments, total=False):
    """With those of what may keep tokens, too."""

    edit: TokenEdit | None


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn. The defaults are the official settings for metrics; cfg 4 looks better."""

    cfg: float = 1.5
    """Guidance at the last scale; 0 is none."""
    top_k: int = 900
    """Draw among the k most probable tokens; 0 is all."""
    top_p: float = 0.96
    """Draw among the most probable tokens that together reach p; 0 is all."""
    more_smooth: bool = False
    """Mix code vectors by Gumbel-softmax instead of drawing one. Prettier images, not for metrics."""

    def __post_init__(self) -> None:
        if not (isinstance(self.cfg, Real) and abs(self.cfg) <= LARGEST_CFG):
            raise InputError(
                f"cfg must be a finite number between -{LARGEST_CFG} and {LARGEST_CFG}, not {brief(self.cfg)}"
            )
        if not (isinstance(self.top_k, Integral) and self.top_k >= 0):
            raise InputError(f"top-k must be 0 (off) or a positive integer, not {brief(self.top_k)}")
        if not (isinstance(self.top_p, Real) and 0 <= self.top_p <= 1):
            raise InputError(f"top-p must lie between 0 (off) and 1, not {brief(self.top_p)}")


@dataclass(frozen=True)
class ScaleStep:
    """One scale, drawn."""

    index: int
    """k."""
    size: tuple[int, int]
    """(h_k, w_k)."""
    tokens: Tensor
    """The tokens drawn, (B, n_k)."""
    logits: Tensor
    """After guidance, before top-k and top-p, (B, n_k, V)."""
    canvas: Tensor
    """f_hat after this scale, (B, D, h_K, w_K)."""
    labels: Tensor
    """(B,), the class of each image."""
    finite: Tensor = field(repr=False)
    """Whether all probabilities so far were finite, a scalar."""
    _tokenizer: ImageTokenizer = field(repr=False)

    @torch.no_grad()
    def image(self) -> Tensor:
        """The image so far, (B, 3, H, W) in [0, 1]."""
        return self._tokenizer.decode_canvas(self.canvas).add(1).mul(0.5)


@dataclass(frozen=True)
class SampleResult:
    """Images, and how they came about."""

    images: Tensor
    """(B, 3, H, W) in [0, 1]."""
    tokens: list[Tensor]
    """K LongTensors (B, n_k): the tokens that were drawn, before an edit put kept ones in their place."""
    labels: Tensor
    """(B,), the class of each image; num_classes is "no class"."""


def sample_scales(
    tokenizer: ImageTokenizer,
    model: VAR,
    labels: Labels,
    *,
    num_images: int | None = None,
    cfg: float = 1.5,
    top_k: int = 900,
    top_p: float = 0.96,
    seed: int | Sequence[int] = 0,
    more_smooth: bool = False,
    edit: TokenEdit | None = None,
) -> Iterator[ScaleStep]:
    """Draw images, one `ScaleStep` after another.

    Args:
        labels: (B,) classes, where num_classes means "no class"; or None, drawn at random, or "unconditional", both
            with ``num_images``.
        cfg, top_k, top_p, more_smooth: see `SamplingSettings`.
        seed: an int, one generator for the call (the official semantics), or B ints, one for each image.
        edit: tokens to keep.

    Raises:
        InputError: an argument out of range, or a tokenizer and a transformer that do not fit together. At the last
            scale: the model's logits were not finite.
    """
    settings = SamplingSettings(cfg, top_k, top_p, more_smooth)
    check_match(tokenizer, model)
    batch = count_images(labels, num_images)
    streams = RandomStreams(seed, batch, model.device)
    classes = resolve_labels(labels, model.config.num_classes, streams)
    if edit is not None:
        tokenizer.check_tokens(edit.tokens)
        edit.check(tokenizer.schedule, batch)
    return map(check_last, generate_scales(tokenizer, model, classes, settings, streams, edit))


@torch.no_grad()
def generate_scales(
    tokenizer: ImageTokenizer,
    model: VAR,
    labels: Tensor,
    settings: SamplingSettings,
    streams: RandomStreams,
    edit: TokenEdit | None = None,
) -> Iterator[ScaleStep]:
    """`sample_scales` with arguments that are checked, classes (B,) on the model's device. No value is looked at on the
    way: what a GPU does is given to it at once."""
    pyramid, schedule = tokenizer.pyramid, model.schedule
    guided = settings.cfg != 0
    no_class = torch.full_like(labels, model.config.num_classes)
    sequences = torch.cat((labels, no_class)) if guided else labels
    condition = model.condition(sequences)
    cache = model.make_cache(len(sequences))
    tokens = logits = labels.new_empty(0)
    finite = torch.ones((), dtype=torch.bool, device=labels.device)

    def draw(k: int, canvas: Tensor) -> Tensor:
        """The code vectors of scale k, given the canvas so far."""
        nonlocal tokens, logits, finite
        inputs = None
        if k > 0:
            look = pyramid.look(canvas, k)
            inputs = torch.cat((look, look)) if guided else look
        features = model.forward_scale(k, inputs, condition, cache)
        if guided:
            features = guide(features, guidance_weight(settings.cfg, schedule, k))
        logits = model.logits(features)
        filtered = top_k_top_p_filter(logits, settings.top_k, settings.top_p)
        probabilities = filtered.softmax(dim=-1)
        finite = finite & torch.isfinite(probabilities.sum())
        tokens = streams.categorical(probabilities)
        codes = pyramid.codebook(tokens)
        if settings.more_smooth:
            codes = smooth_codes(filtered, schedule.position(k), streams) @ pyramid.codebook.weight
        if edit is not None:
            kept = edit.kept(k, schedule).to(codes.device)
            codes = torch.where(kept.unsqueeze(-1), pyramid.codebook(edit.tokens[k].to(codes.device)), codes)
        return codes

    for step in pyramid.walk(draw, pyramid.empty_canvas(len(labels))):
        yield ScaleStep(step.index, schedule.sizes[step.index], tokens, logits, step.canvas, labels, finite, tokenizer)


def check_last(step: ScaleStep) -> ScaleStep:
    """The step itself, unless it is the last of what damaged weights drew."""
    last = step.index == len(step._tokenizer.schedule.sizes) - 1
    if last and not step.finite:
        raise InputError("the model's logits are not finite: damaged weights, or too strong a guidance")
    return step


def sample(
    tokenizer: ImageTokenizer, model: VAR, labels: Labels, **arguments: Unpack[SamplingArguments]
) -> SampleResult:
    """Draw images; see `sample_scales` for the arguments."""
    step, tokens = last_step(sample_scales(tokenizer, model, labels, **arguments))
    return SampleResult(step.image(), tokens, step.labels)


def last_step(steps: Iterator[ScaleStep]) -> tuple[ScaleStep, list[Tensor]]:
    """(the last step, the tokens that were drawn at each)."""
    step = next(steps)
    tokens = [step.tokens]
    for step in steps:  # only the last canvas is needed
        tokens.append(step.tokens)
    return step, tokens


def smooth_codes(logits: Tensor, position: float, streams: RandomStreams) -> Tensor:
    """Gumbel-softmax weights over the codebook, ever harder towards the last scale. (B, n, V) -> (B, n, V)."""
    temperature = max(0.27 * (1 - 0.95 * position), 0.005)
    logits = logits * (1 + position)
    return ((logits + streams.gumbel(logits)) / temperature).softmax(dim=-1)


def check_match(tokenizer: ImageTokenizer, model: VAR) -> None:
    """Raises InputError unless the transformer was made for tokenizers like this one."""
    ours, theirs = model.config, tokenizer.config
    for name in ("schedule", "codebook_size", "code_dim"):
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"the transformer expects {name} {getattr(ours, name)}, but the tokenizer has {getattr(theirs, name)}"
            )


def count_images(labels: Labels, num_images: int | None) -> int:
    """B, from the labels or from ``num_images``."""
    if labels is None or isinstance(labels, str):
        if labels not in (None, "unconditional"):
            raise InputError(f'labels are a list of classes, None or "unconditional", not {labels!r}')
        if not isinstance(num_images, int) or num_images < 1:
            raise InputError(f"without labels, num_images must be an integer of at least 1, not {num_images!r}")
        return num_images
    if not hasattr(labels, "__len__") or getattr(labels, "ndim", 1) != 1:
        raise InputError(f"labels are a list with a class for each image, not {labels!r}")
    if len(labels) == 0:
        raise InputError("expected at least one label, got none")
    if num_images not in (None, len(labels)):
        raise InputError(f"{len(labels)} labels were given for {num_images} images")
    return len(labels)


def resolve_labels(labels: Labels, num_classes: int, streams: RandomStreams) -> Tensor:
    """The class of each image as (B,) int64 on the sampler's device."""
    if labels is None:
        return streams.labels(num_classes)
    if isinstance(labels, str):
        return torch.full((streams.batch,), num_classes, device=streams.device)
    try:
        classes = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"labels are a list of integers, not {labels!r}") from error
    if classes.ndim != 1 or classes.is_floating_point() or classes.dtype == torch.bool:
        raise InputError(f"labels are a sequence of integers, not {classes.dtype} of shape {tuple(classes.shape)}")
    if bad := [c for c in classes.tolist() if not 0 <= c <= num_classes]:
        raise InputError(
            f"label {bad[0]} is out of range: expected 0..{num_classes - 1}, or {num_classes} for no class"
        )
    return classes.long().to(streams.device)
