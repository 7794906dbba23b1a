"""InfinityStar: text, images and videos to images and videos (arXiv 2511.04675)."""

from __future__ import annotations

from nextscale.families.family import Family, PublishedModel
from nextscale.official.infinity_star import from_official, to_official
from nextscale.sampling.settings import FOR_VIDEOS, SamplingSettings
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from nextscale.transformer.infinity_star import InfinityStar
from nextscale.transformer.infinity_star_config import InfinityStarConfig

TOKENIZER_FILE = "infinitystar_videovae.pth"
FOR_INTERACTION = SamplingSettings(cfg=3.0, temperature=0.5, top_k=0, top_p=0.0)
"""The official settings of the interactive model."""


def _published(file: str, budget: str, settings: SamplingSettings | None = None) -> PublishedModel:
    tokenizer = VideoTokenizerConfig(schedule=SpacetimeSchedule.official(budget))
    return PublishedModel(file, TOKENIZER_FILE, InfinityStarConfig.named("8b"), tokenizer, settings=settings)


PUBLISHED = {
    "480p": _published("infinitystar_8b_480p_weights", "0.40M"),
    "720p": _published("infinitystar_8b_720p_weights", "0.90M"),
    "interact": _published("InfinityStarInteract_24K_iters", "0.40M", FOR_INTERACTION),
}

FAMILY = Family(
    name="infinity-star",
    title="InfinityStar",
    paper="https://arxiv.org/abs/2511.04675",
    media="video",
    takes="prompt",
    tokenizer=VideoTokenizer,
    transformer=InfinityStar,
    transformer_config=InfinityStarConfig,
    settings=FOR_VIDEOS,
    repository="FoundationVision/InfinityStar",
    published=PUBLISHED,
    official_files=(TOKENIZER_FILE, "infinitystar.pth"),
    from_official=from_official,
    to_official=to_official,
    text_encoder="google/flan-t5-xl",
    prefix="infinitystar-",
)
