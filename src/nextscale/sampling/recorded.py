"""`sample` on a GPU as one CUDA graph per batch size and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextscale.acceleration.cuda_graph import capture
from nextscale.errors import InputError
from nextscale.protocols import Tokenizer, Transformer
from nextscale.sampling.guidance import make_guidance
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.sampler import (
    Call,
    SampleResult,
    ScaleStep,
    check_finite,
    check_last,
    check_match,
    generate_scales,
    last_step,
)
from nextscale.sampling.settings import METRICS, SamplingSettings


def replay(
    recorded: dict[Any, RecordedSampler],
    parts: tuple[Tokenizer, Transformer],
    ids: Any,
    settings: SamplingSettings,
    num_images: int | None = None,
    seed: int | Sequence[int] = 0,
) -> SampleResult:
    """Replay the graph of a call, which is recorded on first use.

    Args:
        recorded: the samplers that were recorded with ``parts``, by batch size, settings and kind of seed.
        parts: tokenizer and transformer, made ready.
        ids: class labels, as in `nextscale.sample`.
    """
    key = parts[1].conditioner.count(ids, num_images), settings, isinstance(seed, Sequence)
    if key not in recorded:
        recorded[key] = RecordedSampler(*parts, *key)
    return recorded[key](ids, seed)


class RecordedSampler:
    """`nextscale.sample` for one batch size and one set of settings, recorded once. Equal seeds give equal images.

    Args:
        tokenizer, model: on the current GPU, made ready (`Pipeline.ready`), compiled or not.
        batch: B.
        seed_per_image: whether calls bring one seed per image instead of one for all.

    Raises:
        InputError: The model is not on a GPU, or tokenizer and transformer do not fit together.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Transformer,
        batch: int,
        settings: SamplingSettings = METRICS,
        seed_per_image: bool = False,
    ):
        check_match(tokenizer, model)
        self.batch, self._conditioner = batch, model.conditioner
        self._streams = RandomStreams([0] * batch if seed_per_image else 0, batch, model.device)
        self._labels = self._conditioner.parse("unconditional", self._streams)
        guidance = make_guidance(None, settings.cfg, tokenizer.schedule, model)
        call = Call(self._labels, batch, settings, self._streams, guidance, tokenizer.schedule)

        @torch.no_grad()
        def run() -> tuple[ScaleStep, list[Tensor], Tensor]:
            step, tokens = last_step(generate_scales(tokenizer, model, call))
            return step, tokens, step.image()

        self._repeat = capture(run, self._streams.generators)

    def __call__(self, labels: Any = None, seed: int | Sequence[int] = 0) -> SampleResult:
        """Generate B images.

        Args:
            labels: as in `nextscale.sample`; None and "unconditional" apply to all B.

        Raises:
            InputError: The number of labels or seeds differs from the recording, or the logits or
                the decoder's values are not finite.
        """
        streams = RandomStreams(seed, self.batch, self._streams.device)
        if len(streams.generators) != len(self._streams.generators):
            kind = "one seed for each image" if len(self._streams.generators) > 1 else "one seed for all images"
            raise InputError(f"this graph was recorded with {kind}, and cannot take {len(streams.generators)}")
        self._conditioner.count(labels, self.batch)
        self._labels.copy_(self._conditioner.parse(labels, streams))
        for recorded, given in zip(self._streams.generators, streams.generators, strict=True):
            recorded.set_state(given.get_state())
        step, tokens, images = self._repeat()
        check_last(step)
        return SampleResult(check_finite(images).clone(), [t.clone() for t in tokens], self._labels.clone())
