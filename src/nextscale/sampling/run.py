"""A sampling run: iterate over its scales, then ask for the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nextscale.protocols import Schedule, Tokenizer
from nextscale.runtime.device import one_core_each
from nextscale.sampling.sampler import SampleResult, ScaleStep, check_finite
from nextscale.sampling.token_edit import TokenEdit


class SamplingRun(Iterator[ScaleStep]):
    """One call of the sampler. Iterate to watch the scales, then call `result`.

    Args:
        steps: from `nextscale.sampling.sampler.sample_scales`.
        tokenizer: decodes the result.
        edit: the edit that ``steps`` were made with.
        exact: On the CPU, decode each image alone, so that it does not depend on its batch. Use it with one seed per
            image and without ``more_smooth``, whose code vectors have no tokens.
        schedule: the schedule that ``steps`` were made with; None means the tokenizer's.
        prompts: the prompt of each image, for text-to-image models.
        notes: sentences about what the model cannot follow in the request, such as words that it does not know.
        decoder: called once all scales are sampled, for the tokenizer that decodes them; None means ``tokenizer``.
        decode_last: decode no clip of a video before all are sampled, because only one model is in memory at a time.
    """

    def __init__(
        self,
        steps: Iterator[ScaleStep],
        tokenizer: Tokenizer,
        edit: TokenEdit | None = None,
        exact: bool = False,
        schedule: Schedule | None = None,
        prompts: Sequence[str] = (),
        notes: Sequence[str] = (),
        decoder: Callable[[], Tokenizer] | None = None,
        decode_last: bool = False,
    ):
        self._steps, self._tokenizer, self._edit, self._exact = steps, tokenizer, edit, exact
        self._decoder, self._decode_last = decoder, decode_last
        self.schedule, self.prompts, self.notes = tokenizer.schedule_or_own(schedule), prompts, notes
        self.tokens: list[Tensor] = []
        """Sampled tokens (B, n_k, ...) of the scales so far."""
        self._last: ScaleStep | None = None

    def __next__(self) -> ScaleStep:
        self._last = next(self._steps)
        self.tokens.append(self._last.tokens)
        return self._last

    def result(self) -> SampleResult:
        """Sample the remaining scales and decode the images.

        Raises:
            InputError: the logits or the decoder's values are not finite.
        """
        last = self._last
        for step in self:
            last = step
        assert last is not None, "a schedule has at least one scale"
        self._last = last
        return SampleResult(check_finite(self._decode(last)), self.tokens, last.labels)

    def frames(self, on_step: Callable[[ScaleStep], None] = lambda step: None) -> Iterator[Tensor]:
        """Sample the remaining visits of a video, and yield its frames as they are decoded.

        A clip is decoded while the next ones are not sampled yet. The memory for decoding does not depend on the
        duration. With one seed per video, each is decoded alone, so that it does not depend on its batch.

        Args:
            on_step: called after each visit.

        Yields:
            (B, 3, T', H, W) in [0, 1], a few frames at a time.

        Raises:
            InputError: the logits or the decoder's values are not finite.
        """
        streams: list[Any] = []
        clips = self._clips(on_step)
        for latents in list(clips) if self._decode_last else clips:
            if not streams:
                tokenizer: Any = self._decoder() if self._decoder else self._tokenizer
                streams = [tokenizer.decoding_stream() for _ in range(len(latents) if self._exact else 1)]
            decoded = (stream.decode(part) for stream, part in zip(streams, latents.chunk(len(streams)), strict=True))
            for parts in zip(*decoded, strict=True):
                yield check_finite(torch.cat(parts)).add(1).mul(0.5)

    def _clips(self, on_step: Callable[[ScaleStep], None]) -> Iterator[Tensor]:
        """Sample, and yield the latents of each clip, (B, D, t, h, w), when it is complete."""
        following = (*(visit.clip for visit in self.schedule.visits[1:]), -1)
        for step in self:
            on_step(step)
            if step.is_last or following[step.index] != step.visit.clip:
                start = step.visit.start
                yield step.canvas[:, :, start : start + step.visit.size[0]]

    def _decode(self, step: ScaleStep) -> Tensor:
        tokenizer = self._decoder() if self._decoder else self._tokenizer
        if self._exact and step.canvas.device.type == "cpu" and step.canvas.ndim == 4:
            return decode_each(tokenizer, self.tokens, self._edit, self.schedule)
        return replace(step, tokenizer=tokenizer).image()


def decode_each(
    tokenizer: Tokenizer, tokens: list[Tensor], edit: TokenEdit | None = None, schedule: Schedule | None = None
) -> Tensor:
    """Decode image by image, each on one core. No bit of an image then depends on the others or on the number of cores.

    Decoded in a batch, or on more cores, images differ by rounding errors: one image in four has a pixel that is one
    level off.

    Args:
        tokens: K token maps (B, n_k, ...); only the first ones if sampling stopped early.
        edit: replaces the tokens that it keeps.
        schedule: None means the tokenizer's.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    schedule = tokenizer.schedule_or_own(schedule)
    tokens = edit.put(tokens, schedule) if edit else tokens

    @torch.no_grad()
    def decode(i: int) -> Tensor:
        return tokenizer.decode_canvas(tokenizer.pyramid.canvas([t[i : i + 1] for t in tokens], schedule))

    return torch.cat(one_core_each(decode, range(len(tokens[0])))).add(1).mul(0.5)
