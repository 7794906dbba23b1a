"""A sampling run: iterate over its scales, then ask for the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

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
    ):
        self._steps, self._tokenizer, self._edit, self._exact = steps, tokenizer, edit, exact
        self._decoder = decoder
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

    def _decode(self, step: ScaleStep) -> Tensor:
        tokenizer = self._decoder() if self._decoder else self._tokenizer
        if self._exact and step.canvas.device.type == "cpu":
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
