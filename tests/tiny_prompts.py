"""A tiny text-to-image model for the server, with templates of 16 x 16 tokens, and what it generates alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tiny_infinity import TEXT_WIDTH, WordEncoder, make_infinity, make_tokenizer
from tiny_t5 import write_t5
from tiny_web import HeldPipeline
from tiny_words import make_word_model

import nextscale as ns
from nextscale.pipeline import PipelineResult
from nextscale.sampling.settings import FOR_PROMPTS
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.tickets import Job

SMALL = ScaleSchedule.infinity("0.06M")
PROMPTS = ("a fox in the snow", "two red cars", "a bee", "blue mountains and a small boat on the lake")


def make_parts() -> tuple[Any, Any]:
    """Images of 32 x 32 pixels in 7 scales, and those of the other templates."""
    return make_tokenizer(schedule=SMALL, channels=32, multipliers=(1, 1)), make_infinity(schedule=SMALL)


def held() -> HeldPipeline:
    return HeldPipeline(*make_parts(), device="cpu", dtype="float32", text_encoder=WordEncoder())


@lru_cache
def plain() -> ns.Pipeline:
    """Shared between tests: do not change it."""
    return ns.Pipeline(*make_parts(), device="cpu", dtype="float32", text_encoder=WordEncoder())


def alone(prompt: str, seed: int, **changes: Any) -> PipelineResult:
    """What a pipeline generates without an engine."""
    return plain()(prompt, seed=[seed], **changes)


def prompt_job(prompt: str, *seeds: int, **changes: Any) -> Job:
    """An image of one prompt for each seed."""
    return Job(**{"wanted": (prompt,) * len(seeds), "seeds": seeds, "settings": FOR_PROMPTS, **changes})


def save_model(folder: Path) -> ns.Pipeline:
    """Write a model with a T5, as the command line reads it."""
    t5 = write_t5(folder / "t5", d_model=TEXT_WIDTH)
    pipeline = ns.Pipeline(*make_parts(), device="cpu", dtype="float32", text_encoder=str(t5))
    pipeline.save_pretrained(folder / "model")
    return pipeline


def save_word_model(folder: Path) -> Path:
    """Write a model with a text encoder of its own, as the command line reads it."""
    tokenizer = make_tokenizer(schedule=SMALL, channels=32, multipliers=(1, 1))
    ns.Pipeline(tokenizer, make_word_model(schedule=SMALL), device="cpu").save_pretrained(folder)
    return folder
