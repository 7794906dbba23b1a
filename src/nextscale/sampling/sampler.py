"""The sampler: generate an image scale by scale (VAR, section 3.2). It knows models by `nextscale.protocols` only.

`sample_scales` gives one `ScaleStep` after another. `sample` runs to the end and decodes the canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.protocols import Guidance, GuidanceSchedule, LogitsProcessor, Tokenizer, Transformer
from nextscale.sampling.filters import top_k_top_p_filter
from nextscale.sampling.guidance import make_guidance
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.settings import METRICS, SamplingSettings
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.schedule import Visit


@dataclass(frozen=True)
class ScaleStep:
    """The result of one visit."""

    visit: Visit
    tokens: Tensor
    """Sampled tokens, (B, n_k)."""
    logits: Tensor
    """After guidance, before temperature, top-k and top-p, (B, n_k, V)."""
    canvas: Tensor
    """f_hat after this visit, (B, D, h_K, w_K)."""
    labels: Tensor
    """(B,), the class label of each image."""
    finite: Tensor = field(repr=False)
    """Whether all probabilities so far were finite, a scalar."""
    tokenizer: Tokenizer = field(repr=False)

    @property
    def index(self) -> int:
        """k."""
        return self.visit.index

    @property
    def size(self) -> tuple[int, int]:
        """(h_k, w_k)."""
        return self.visit.size[1:]

    @property
    def is_last(self) -> bool:
        return self.index == self.tokenizer.schedule.num_scales - 1

    @torch.no_grad()
    def image(self) -> Tensor:
        """Decode the canvas. -> (B, 3, H, W) in [0, 1]."""
        return self.tokenizer.decode_canvas(self.canvas).add(1).mul(0.5)


@dataclass(frozen=True)
class SampleResult:
    """Generated images and their tokens."""

    images: Tensor
    """(B, 3, H, W) in [0, 1]."""
    tokens: list[Tensor]
    """K LongTensors (B, n_k): the sampled tokens, before an edit replaced those to keep."""
    labels: Tensor
    """(B,), the class label of each image; num_classes is "no class"."""


@dataclass(frozen=True)
class Call:
    """The checked arguments of one call of the sampler, on the model's device."""

    conditions: Any
    """A batch of the model's conditioner; class labels (B,) for VAR."""
    batch: int
    settings: SamplingSettings
    streams: RandomStreams
    guidance: Guidance
    edit: TokenEdit | None = None
    logits_processor: LogitsProcessor | None = None


def sample(tokenizer: Tokenizer, model: Transformer, labels: Any, **arguments: Any) -> SampleResult:
    """Generate images. `sample_scales` documents the arguments."""
    step, tokens = last_step(sample_scales(tokenizer, model, labels, **arguments))
    return SampleResult(check_finite(step.image()), tokens, step.labels)


def sample_scales(
    tokenizer: Tokenizer,
    model: Transformer,
    labels: Any,
    *,
    num_images: int | None = None,
    seed: int | Sequence[int] = 0,
    settings: SamplingSettings = METRICS,
    edit: TokenEdit | None = None,
    guidance: Guidance | GuidanceSchedule | None = None,
    logits_processor: LogitsProcessor | None = None,
    **changes: Any,
) -> Iterator[ScaleStep]:
    """Generate images, one `ScaleStep` after another.

    Args:
        labels: (B,) class labels, where num_classes means "no class"; or, with ``num_images``, None for random classes
            or "unconditional".
        seed: An int seeds one generator for the call, as in the official code. B ints seed one generator per image;
            an image then does not depend on its batch.
        settings: See `SamplingSettings`.
        edit: Tokens to keep.
        guidance: Replaces the ramp up to ``cfg``: a `Guidance`, or a function that gives the weight of a visit.
        logits_processor: Called as (logits (B, n_k, V), visit) after guidance, before temperature, top-k and top-p.
        changes: Single settings by name, such as ``cfg=4.0``.

    Raises:
        InputError: An argument is out of range, or tokenizer and transformer do not fit together. At the last scale:
            the logits were not finite.
    """
    check_match(tokenizer, model)
    settings = settings.changed(**changes)
    strategy = make_guidance(guidance, settings.cfg, tokenizer.schedule)
    batch = model.conditioner.count(labels, num_images)
    streams = RandomStreams(seed, batch, model.device)
    conditions = model.conditioner.parse(labels, streams)
    if edit is not None:
        tokenizer.check_tokens(edit.tokens)
        edit.check(tokenizer.schedule, batch)
    call = Call(conditions, batch, settings, streams, strategy, edit, logits_processor)
    return map(check_last, generate_scales(tokenizer, model, call))


@torch.no_grad()
def generate_scales(tokenizer: Tokenizer, model: Transformer, call: Call) -> Iterator[ScaleStep]:
    """`sample_scales` with checked arguments. It never reads a value back from the device: no waiting for a GPU."""
    pyramid, schedule, conditioner = tokenizer.pyramid, tokenizer.schedule, model.conditioner
    settings, guidance, streams, edit = call.settings, call.guidance, call.streams, call.edit
    guided = guidance.needs_unconditional(schedule.visits)
    conditions, sequences = call.conditions, call.batch
    if guided:
        conditions, sequences = conditioner.join(conditions, conditioner.unconditional(conditions)), 2 * call.batch
    condition = model.condition(conditions)
    cache = model.make_cache(schedule, sequences)
    tokens = logits = torch.empty(0, device=model.device)
    finite = torch.ones((), dtype=torch.bool, device=model.device)

    def predict(visit: Visit, canvas: Tensor) -> Tensor:
        """Logits of a visit, given the canvas so far."""
        inputs = pyramid.look(canvas, visit) if visit.index else None
        if guided and inputs is not None:
            inputs = torch.cat((inputs, inputs))
        features = model.forward_scale(visit, inputs, condition, cache)
        if not guided:
            return model.logits(features, visit)
        if guidance.is_linear:  # so is the head: combining before it halves its cost
            conditional, unconditional = features.chunk(2)
            return model.logits(guidance.combine(conditional, unconditional, visit), visit)
        conditional, unconditional = model.logits(features, visit).chunk(2)
        return guidance.combine(conditional, unconditional, visit)

    def choose(visit: Visit, canvas: Tensor) -> Tensor:
        """Sample the tokens of a visit. -> their code vectors."""
        nonlocal tokens, logits, finite
        logits = predict(visit, canvas)
        if call.logits_processor is not None:
            logits = call.logits_processor(logits, visit)
        scaled = logits if settings.temperature == 1 else logits / settings.temperature
        filtered = top_k_top_p_filter(scaled, settings.top_k, settings.top_p)
        probabilities = filtered.softmax(dim=-1)
        finite = finite & torch.isfinite(probabilities.sum())
        tokens = streams.categorical(probabilities)
        if settings.more_smooth:
            codes = pyramid.codebook.mix(smooth_weights(filtered, schedule.position(visit.index), streams))
        else:
            codes = pyramid.codebook.codes(tokens)
        return codes if edit is None else edit.replace(codes, visit.index, pyramid.codebook, schedule)

    for step in pyramid.walk(choose, pyramid.empty_canvas(call.batch)):
        yield ScaleStep(step.visit, tokens, logits, step.canvas, call.conditions, finite, tokenizer)


def check_last(step: ScaleStep) -> ScaleStep:
    """The step itself. Raises InputError at the last scale if any logits were not finite."""
    if step.is_last and not step.finite:
        raise InputError("the model's logits are not finite: damaged weights, or too strong a guidance")
    return step


def check_finite(images: Tensor) -> Tensor:
    """The decoded images themselves. Raises InputError if a value is not finite. Waits for the GPU."""
    if not torch.isfinite(images).all():
        raise InputError("the decoder's values are not finite: damaged weights, or too low a precision")
    return images


def last_step(steps: Iterator[ScaleStep]) -> tuple[ScaleStep, list[Tensor]]:
    """(The last step, the sampled tokens of all steps)."""
    step = next(steps)
    tokens = [step.tokens]
    for step in steps:  # only the last canvas is needed
        tokens.append(step.tokens)
    return step, tokens


def smooth_weights(logits: Tensor, position: float, streams: RandomStreams) -> Tensor:
    """Gumbel-softmax weights over the codebook, harder towards the last scale. (B, n, V) -> (B, n, V)."""
    temperature = max(0.27 * (1 - 0.95 * position), 0.005)
    logits = logits * (1 + position)
    return ((logits + streams.gumbel(logits)) / temperature).softmax(dim=-1)


def check_match(tokenizer: Tokenizer, model: Transformer) -> None:
    """Raises InputError unless the transformer fits the tokenizer."""
    ours, theirs = model.config, tokenizer.config
    for name in ("schedule", "codebook_size", "code_dim"):
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"the transformer expects {name} {getattr(ours, name)}, but the tokenizer has {getattr(theirs, name)}"
            )
