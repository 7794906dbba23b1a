"""Requests to a text-to-video model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nextscale.conditioning.prompts import TextOptions, duration_tag
from nextscale.families.requests import PromptRequests

DETAIL_PHRASE = "A close view of large objects, rich in fine detail"
"""Our phrase for ``positive_phrase``. The official code has another one with the same purpose."""


@dataclass(frozen=True)
class VideoRequests(PromptRequests):
    """Requests to a text-to-video model. Prompts begin with the duration in whole seconds, as in training."""

    schedule: Any

    def texts(self, prompts: Sequence[str], options: TextOptions) -> Sequence[str]:
        tag = duration_tag(self.schedule.seconds)
        if options.positive_phrase:
            prompts = [f"{text.rstrip(' .')}. {DETAIL_PHRASE}" if text.strip() else text for text in prompts]
        return [tag + text if text.strip() else text for text in prompts]
