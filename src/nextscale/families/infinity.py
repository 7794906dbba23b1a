"""Infinity: text to images (arXiv 2412.04431)."""

from __future__ import annotations

from nextscale.families.family import Family, PublishedModel
from nextscale.official.infinity import from_official, to_official
from nextscale.sampling.settings import FOR_PROMPTS
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

PATCHIFIED = "infinity_vae_d56_f8_14_patchify.pth"
FOR_8B = FOR_PROMPTS.changed(temperature=1.0)


def _published(file: str, tokenizer_file: str, size: str, budget: str, code_dim: int, patchify: bool) -> PublishedModel:
    schedule = ScaleSchedule.infinity(budget)
    return PublishedModel(
        file,
        tokenizer_file,
        InfinityConfig.named(size, schedule=schedule),
        TokenizerConfig.infinity(code_dim, patchify, schedule),
        settings=FOR_8B if size == "8b" else None,
    )


PUBLISHED = {
    "2b": _published("infinity_2b_reg.pth", "infinity_vae_d32reg.pth", "2b", "1M", 32, False),
    "8b": _published("infinity_8b_weights", PATCHIFIED, "8b", "1M", 14, True),
    "8b-512": _published("infinity_8b_512x512_weights", PATCHIFIED, "8b", "0.25M", 14, True),
}

FAMILY = Family(
    name="infinity",
    title="Infinity",
    paper="https://arxiv.org/abs/2412.04431",
    media="image",
    takes="prompt",
    tokenizer=ImageTokenizer,
    transformer=Infinity,
    transformer_config=InfinityConfig,
    settings=FOR_PROMPTS,
    repository="FoundationVision/Infinity",
    published=PUBLISHED,
    official_files=("infinity_vae.pth", "infinity.pth"),
    from_official=from_official,
    to_official=to_official,
    text_encoder="google/flan-t5-xl",
    prefix="infinity-",
)
