"""The sampler: generate an image scale by scale (VAR, section 3.2). It knows models by `nextscale.protocols` only.

`sample_scales` gives one `ScaleStep` after another. `sample` runs to the end and decodes the canvas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from nextscale.errors import InputError, brief
from nextscale.protocols import (
    AfterBlock,
    Guidance,
    GuidanceSchedule,
    LogitsProcessor,
    Schedule,
    Tokenizer,
    Transformer,
)
from nextscale.sampling.filters import top_k_top_p_filter
from nextscale.sampling.guidance import make_guidance
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.settings import METRICS, SamplingSettings, is_integer, per_scale
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.schedule import ScaleSchedule, Visit


@dataclass(frozen=True)
class ScaleStep:
    """The result of one visit."""

    visit: Visit
    tokens: Tensor
    """Sampled tokens, (B, n_k) int64, or bits (B, n_k, D) bool."""
    logits: Tensor
    """After guidance, before temperature, top-k and top-p, (B, n_k, V), or (B, n_k, D, 2) for bits."""
    canvas: Tensor
    """f_hat after this visit, (B, D, h_K, w_K), or (B, D, t, h_K, w_K) of all clips so far for videos."""
    labels: Any
    """What the images show: class labels (B,), or `TextFeatures`."""
    finite: Tensor = field(repr=False)
    """Whether all probabilities so far were finite, a scalar."""
    tokenizer: Tokenizer = field(repr=False)
    is_last: bool = False

    @property
    def index(self) -> int:
        """k."""
        return self.visit.index

    @property
    def size(self) -> tuple[int, int]:
        """(h_k, w_k)."""
        return self.visit.size[1:]

    @torch.no_grad()
    def image(self) -> Tensor:
        """Decode the canvas. -> (B, 3, H, W) in [0, 1], or (B, 3, T, H, W) for videos."""
        return self.tokenizer.decode_canvas(self.canvas).add(1).mul(0.5)


@dataclass(frozen=True)
class SampleResult:
    """Generated images and their tokens."""

    images: Tensor
    """(B, 3, H, W) in [0, 1], or `videos`."""
    tokens: list[Tensor]
    """The sampled tokens of each scale, (B, n_k) int64 or bits (B, n_k, D) bool, before an edit replaced some."""
    labels: Any
    """What the images show: class labels (B,), where num_classes is "no class"; or `TextFeatures`."""

    @property
    def videos(self) -> Tensor:
        """(B, 3, T, H, W) in [0, 1]. Images are videos of one frame."""
        return self.images if self.images.ndim == 5 else self.images.unsqueeze(2)


@dataclass(frozen=True)
class Call:
    """The checked arguments of one call of the sampler, on the model's device."""

    conditions: Any
    """A batch of the model's conditioner; class labels (B,) for VAR."""
    batch: int
    settings: SamplingSettings
    streams: RandomStreams
    guidance: Guidance
    schedule: Schedule
    edit: TokenEdit | None = None
    logits_processor: LogitsProcessor | None = None
    negative: Any = None
    """Conditions in place of the unconditional ones."""
    guidance_blocks: tuple[int, ...] = ()
    """Indices of the blocks after which the two predictions are combined."""
    guide_logits: bool = True
    stop_after: int | None = None


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
    guidance: Guidance | GuidanceSchedule | Literal["cfg", "apg"] | None = None,
    logits_processor: LogitsProcessor | None = None,
    schedule: Schedule = None,
    negative: Any = None,
    keep_scales: Sequence[Tensor] | None = None,
    stop_after: int | None = None,
    **changes: Any,
) -> Iterator[ScaleStep]:
    """Generate images, one `ScaleStep` after another.

    Args:
        labels: (B,) class labels, where num_classes means "no class"; or, with ``num_images``, None for random classes
            or "unconditional". For text-to-image models: B prompts as `TextFeatures`, or one prompt with
            ``num_images``.
        seed: An int seeds one generator for the call, as in the official code. B ints seed one generator per image;
            an image then does not depend on its batch.
        settings: See `SamplingSettings`.
        edit: Tokens to keep.
        guidance: Replaces the ramp up to ``cfg``: a `Guidance`, or a function that gives the weight of a visit. Or a
            name as in `SamplingSettings`: "apg" is `nextscale.sampling.guidance.ProjectedGuidance`; "cfg" is the
            model's own. None means that of the settings.
        logits_processor: Called as (logits (B, n_k, V), visit) after guidance, before temperature, top-k and top-p.
        schedule: Sizes of the scales, which decide the size of the images. None means the tokenizer's. Only models
            with rotary positions (Infinity) take others.
        negative: Labels or prompts in place of "no class" or "no prompt" in guidance.
        keep_scales: Given tokens of the first scales, one tensor (B, n_k, D) per scale (``gt_leak``).
        stop_after: Number of scales to sample. The images are decoded from these.
        changes: Single settings by name, such as ``cfg=4.0`` or ``guidance_blocks=[0, -5]``.

    Raises:
        InputError: An argument is out of range, or tokenizer and transformer do not fit together. At the last scale:
            the logits were not finite.
    """
    check_match(tokenizer, model)
    schedule = tokenizer.schedule_or_own(schedule)
    settings = settings.changed(**changes)
    per_scale(settings.cfg, schedule.num_scales, "cfg")
    temperatures_of(settings, schedule)
    strategy = make_guidance(settings.guidance if guidance is None else guidance, settings.cfg, schedule, model)
    batch = model.conditioner.count(labels, num_images)
    streams = RandomStreams(seed, batch, model.device)
    conditions = model.conditioner.parse(labels, streams)
    if keep_scales is not None:
        if edit is not None:
            raise InputError("expected edit or keep_scales, got both")
        if len(keep_scales) > len(schedule.visits):
            raise InputError(f"expected tokens of at most {len(schedule.visits)} scales, got {len(keep_scales)}")
        edit = TokenEdit.of_scales(keep_scales, schedule) if len(keep_scales) else None
    if edit is not None:
        tokenizer.check_tokens(edit.tokens, schedule, 0 < len(edit.tokens) <= edit.scales_kept)
        edit.check(schedule, batch)
    most = len(schedule.visits)
    if stop_after is not None and not (is_integer(stop_after) and 1 <= stop_after <= most):
        raise InputError(f"stop_after must be 1 to {most} scales, not {brief(stop_after)}")
    call = Call(
        conditions,
        batch,
        settings,
        streams,
        strategy,
        schedule,
        edit,
        logits_processor,
        None if negative is None else model.conditioner.parse(negative, streams),
        blocks_of(settings.guidance_blocks, model),
        not settings.guidance_blocks or 0 in settings.guidance_blocks,
        stop_after,
    )
    return map(check_last, generate_scales(tokenizer, model, call))


@torch.no_grad()
def generate_scales(tokenizer: Tokenizer, model: Transformer, call: Call) -> Iterator[ScaleStep]:
    """`sample_scales` with checked arguments. It never reads a value back from the device: no waiting for a GPU."""
    pyramid, schedule, conditioner = tokenizer.pyramid, call.schedule, model.conditioner
    settings, guidance, streams, edit = call.settings, call.guidance, call.streams, call.edit
    temperatures = temperatures_of(settings, schedule)
    visits = schedule.visits[: call.stop_after]
    guided = guidance.needs_unconditional(visits)
    conditions, sequences = call.conditions, call.batch
    if guided:
        other = conditioner.unconditional(conditions) if call.negative is None else call.negative
        conditions, sequences = conditioner.join(conditions, other), 2 * call.batch
    condition = model.condition(conditions)
    forward_scale: Any = model.forward_scale  # `blocks_of` checks that it takes ``after_block``
    cache = model.make_cache(schedule, sequences)
    tokens = logits = torch.empty(0, device=model.device)
    finite = torch.ones((), dtype=torch.bool, device=model.device)
    after_temperature = getattr(guidance, "after_temperature", False)

    def predict(visit: Visit, canvas: Tensor) -> Tensor:
        """Logits of a visit, given the canvas so far."""
        nonlocal guided, condition, cache
        if guided and not guidance.needs_unconditional(visits[visit.index :]):
            guided, condition, cache = False, condition.first(call.batch), cache.first(call.batch)
        inputs = pyramid.look(canvas, visit) if visit.index else None
        if guided and inputs is not None:
            inputs = torch.cat((inputs, inputs))
        if guided and call.guidance_blocks:
            features = forward_scale(visit, inputs, condition, cache, after_block=guide_block(visit))
        else:
            features = forward_scale(visit, inputs, condition, cache)
        if not guided:
            return model.logits(features, visit)
        if not call.guide_logits:
            return model.logits(features.chunk(2)[0], visit)
        if guidance.is_linear:  # so is the head: combining before it halves its cost
            conditional, unconditional = features.chunk(2)
            return model.logits(guidance.combine(conditional, unconditional, visit), visit)
        conditional, unconditional = model.logits(features, visit).chunk(2)
        if not after_temperature:
            return guidance.combine(conditional, unconditional, visit)
        temperature = temperatures[visit.scale]
        return guidance.combine(conditional / temperature, unconditional / temperature, visit) * temperature

    def guide_block(visit: Visit) -> AfterBlock:
        """Combine both halves after some blocks; each half continues with the result."""

        def after_block(x: Tensor, block: int) -> Tensor:
            if block not in call.guidance_blocks or not guidance.needs_unconditional([visit]):
                return x
            conditional, unconditional = x.chunk(2)
            combined = guidance.combine(conditional, unconditional, visit)
            return torch.cat((combined, combined))

        return after_block

    def choose(visit: Visit, canvas: Tensor) -> Tensor:
        """Sample the tokens of a visit. -> their code vectors."""
        nonlocal tokens, logits, finite
        logits = predict(visit, canvas)
        if call.logits_processor is not None:
            logits = call.logits_processor(logits, visit)
        temperature = temperatures[visit.scale]
        scaled = logits if temperature == 1 else logits / temperature
        filtered = top_k_top_p_filter(scaled, settings.top_k, settings.top_p)
        probabilities = filtered.softmax(dim=-1)
        finite = finite & torch.isfinite(probabilities.sum())
        quantizer = pyramid.quantizer(visit)
        tokens = streams.categorical(probabilities).to(quantizer.token_dtype)
        if settings.more_smooth:
            codes = quantizer.mix(smooth_weights(filtered, schedule.position(visit.index), streams))
        else:
            codes = quantizer.codes(tokens)
        return codes if edit is None else edit.replace(codes, visit.index, quantizer, schedule)

    canvas = pyramid.empty_canvas(call.batch, model.device, schedule)
    for step in islice(pyramid.walk(choose, canvas, schedule), len(visits)):
        is_last = step.visit is visits[-1]
        yield ScaleStep(step.visit, tokens, logits, step.all_clips, call.conditions, finite, tokenizer, is_last)


def temperatures_of(settings: SamplingSettings, schedule: Schedule) -> tuple[float, ...]:
    """Return the temperature of each scale of a schedule.

    Raises:
        InputError: ``clip_temperature`` is set for a model of images.
    """
    if settings.clip_temperature is not None and isinstance(schedule, ScaleSchedule):
        raise InputError("clip_temperature is for video models: this one generates images")
    return settings.temperatures(schedule.num_scales, len(schedule.clips))


def blocks_of(guidance_blocks: Sequence[int], model: Transformer) -> tuple[int, ...]:
    """The indices of the blocks that ``guidance_blocks`` names.

    Raises:
        InputError: The model has no such block, or cannot be guided inside.
    """
    depth = model.config.depth
    for entry in guidance_blocks:
        if not -depth < entry <= 0:
            blocks = f" or -1 to {1 - depth} (blocks)" if depth > 2 else " or -1 (the last block)" * (depth - 1)
            raise InputError(f"guidance_blocks are 0 (the logits){blocks}, not {brief(entry)}")
    inside = tuple(depth + entry for entry in guidance_blocks if entry)
    if inside and "after_block" not in signature(model.forward_scale).parameters:
        raise InputError(f"{type(model).__name__} can be guided only on its logits, guidance_blocks=(0,)")
    return inside


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
    for name, ours in model.tokenizer_fields.items():
        theirs = getattr(tokenizer.config, name, None)
        if ours != theirs:
            raise InputError(f"the transformer expects {name} {ours}, but the tokenizer has {theirs}")
