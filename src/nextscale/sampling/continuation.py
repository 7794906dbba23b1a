"""Interactive continuation: five more seconds of a video from a new prompt (InfinityStar, arXiv 2511.04675, 3.4).

Each turn samples one clip of 20 latent frames. It sees the text and two excerpts of the video so far: the last 20
latent frames at a coarse size, and three at full size (the first one of the video, and the last two).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextscale.conditioning.continued_text import ContinuedText, GivenTokens
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.protocols import Schedule, Tokenizer, Transformer
from nextscale.sampling.sampler import check_finite, last_step, sample_scales
from nextscale.scales.schedule import Visit

COARSE_SCALE = 7
"""Index of the scale whose size the coarse excerpt has; that of the last scale in shorter schedules."""
COARSE_NUMBER, FULL_NUMBER = 800, 801
"""The visit numbers of the two excerpts in rotary positions."""


@dataclass(frozen=True)
class Turn:
    """One more clip of B videos."""

    videos: Tensor
    """The new frames, (B, 3, 80, H, W) in [0, 1]."""
    tokens: list[Tensor]
    """The sampled bits of each visit."""
    past: Tensor
    """The last 21 latent frames (B, D, 21, h, w), which the next turn continues."""
    start: Tensor
    """The first latent frame of the video, (B, D, 1, h, w)."""


def continue_video(
    tokenizer: Tokenizer,
    model: Transformer,
    text: TextFeatures,
    past: Tensor,
    start: Tensor | None = None,
    *,
    schedule: Schedule = None,
    **arguments: Any,
) -> Turn:
    """Sample one more clip of B videos.

    Example::

        turn = continue_video(tokenizer, model, text, tokenizer.encode_latents(video), cfg=3.0, temperature=0.5)
        turn = continue_video(tokenizer, model, other_text, turn.past, turn.start, cfg=3.0, temperature=0.5)

    Args:
        text: B prompts.
        past: the last 21 latent frames (B, D, 21, h, w), those of 81 frames.
        start: the first latent frame of the video (B, D, 1, h, w); None means that of ``past``.
        schedule: a schedule of the size of the video; None means the tokenizer's. Its duration does not matter.
        arguments: those of `sample_scales`. The official ones are ``cfg=3.0, temperature=0.5, top_k=0, top_p=0.0``.

    Raises:
        InputError: ``past`` or ``start`` have another shape; or see `sample_scales`.
    """
    schedule = tokenizer.schedule_or_own(schedule).continuation()
    start = past[:, :, :1] if start is None else start
    given = continued_text(tokenizer, text, past, start, schedule)
    step, tokens = last_step(sample_scales(tokenizer, model, given, schedule=schedule, **arguments))
    past = past.to(step.canvas)
    latents = torch.cat((past[:, :, 1:], step.canvas), 2)
    frames = tokenizer.decode_canvas(latents)[:, :, -schedule.frames :]
    return Turn(check_finite(frames.add(1).mul(0.5)), tokens, latents[:, :, -past.shape[2] :], start)


def continued_text(
    tokenizer: Tokenizer, text: TextFeatures, past: Tensor, start: Tensor, schedule: Schedule
) -> ContinuedText:
    """Return prompts with the excerpts of the videos that they continue; see `continue_video`.

    Args:
        schedule: that of the continuation.
    """
    count = schedule.clip_frames
    channels = tokenizer.pyramid.codebook.dim
    for name, latents, frames in (("past", past, count + 1), ("start", start, 1)):
        expected = (len(text), channels, frames, *schedule.final_size)
        if tuple(latents.shape) != expected:
            raise InputError(f"expected {name} as latents of shape {expected}, not {tuple(latents.shape)}")
    coarse = schedule.sizes[min(COARSE_SCALE, len(schedule.sizes) - 1)]
    excerpts = (
        [(past[:, :, 1:], coarse, COARSE_NUMBER, 1)],
        [
            (start, schedule.final_size, FULL_NUMBER, 0),
            (past[:, :, -2:], schedule.final_size, FULL_NUMBER, count - 1),
        ],
    )
    given = []
    for excerpt in excerpts:
        visits, inputs = [], []
        for latents, size, number, first in excerpt:
            frame = schedule.final_size
            visit = Visit(0, (latents.shape[2], *size), (), frame=frame, number=number, start=first)
            visits.append(visit)
            inputs.append(tokenizer.pyramid.look(latents, visit))
        given.append(GivenTokens(tuple(visits), torch.cat(inputs, 1)))
    return ContinuedText(text, given)
