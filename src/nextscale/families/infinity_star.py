"""InfinityStar: text to images and videos (arXiv 2511.04675)."""

from __future__ import annotations

from nextscale.families.family import Family
from nextscale.official.infinity_star import from_official, to_official
from nextscale.sampling.settings import SamplingSettings
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.transformer.infinity_star import InfinityStar
from nextscale.transformer.infinity_star_config import InfinityStarConfig

FAMILY = Family(
    name="infinity-star",
    title="InfinityStar",
    paper="https://arxiv.org/abs/2511.04675",
    media="video",
    takes="prompt",
    tokenizer=VideoTokenizer,
    transformer=InfinityStar,
    transformer_config=InfinityStarConfig,
    settings=SamplingSettings(cfg=3.0),
    repository="FoundationVision/InfinityStar",
    published={},
    official_files=("infinitystar_videovae.pth", "infinitystar.pth"),
    from_official=from_official,
    to_official=to_official,
    text_encoder="google/flan-t5-xl",
)
