"""A pipeline of the small InfinityStar, with a text encoder whose features depend on the text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from tiny_star import make_model, make_schedule, make_text, make_tokenizer

import nextscale as ns


class TextHash:
    """Features of a text from a generator that is seeded by the text. Remembers what it encoded."""

    content = "text-hash"

    def __init__(self):
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> ns.TextFeatures:
        self.texts += texts
        return ns.TextFeatures.of([make_text(1 + len(t) % 7, seed=zlib.crc32(t.encode())).features for t in texts])


def make_pipeline(schedule=None, **options) -> ns.Pipeline:
    """Clips of 1, 2 and 1 latent frames of 32 x 48 pixels: 13 frames, 0.75 seconds."""
    parts = make_tokenizer(schedule or make_schedule()), make_model()
    return ns.Pipeline(*parts, **{"device": "cpu", "dtype": "float32", "text_encoder": TextHash()} | options)
