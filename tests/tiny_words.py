"""A tiny text-to-image model with a text encoder of its own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tiny import randomise
from tiny_infinity import DIM, SCHEDULES, make_tokenizer

import nextscale as ns
from nextscale.conditioning.words import WordsConfig
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

ENTRIES = ("a", "red", "fox", "in", "the", "snow", "car", "two")
WORDS = WordsConfig(ENTRIES, width=32, depth=2, heads=2, max_tokens=8)


@lru_cache
def make_word_model(**options: Any) -> Infinity:
    """Shared between tests: do not change it."""
    fields: dict[str, Any] = {"schedule": SCHEDULES["square"], "words": WORDS, "pool_heads": 2}
    sizes: dict[str, Any] = {"depth": 2, "width": 48, "heads": 3, "bits": DIM}
    return randomise(Infinity(InfinityConfig(**(sizes | fields | options))))


def word_pipeline(**options: Any) -> ns.Pipeline:
    parts = make_tokenizer(), make_word_model()
    return ns.Pipeline(*parts, **{"device": "cpu", "dtype": "float32", **options})
