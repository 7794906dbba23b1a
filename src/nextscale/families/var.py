"""VAR: class labels to images (arXiv 2404.02905)."""

from __future__ import annotations

from nextscale.families.family import Family, PublishedModel
from nextscale.official.var import from_official, to_official
from nextscale.sampling.settings import FOR_IMAGES
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.var import VAR, VARConfig

TOKENIZER_FILE = "vae_ch160v4096z32.pth"


def _published(
    depth: int,
    pixels: str,
    fid: float,
    inception_score: float,
    precision: float | None = None,
    recall: float | None = None,
    shared_adaln: bool = False,
) -> PublishedModel:
    schedule = ScaleSchedule.named(pixels)
    return PublishedModel(
        f"var_d{depth}.pth",
        TOKENIZER_FILE,
        VARConfig.of_depth(depth, schedule=schedule, shared_adaln=shared_adaln),
        TokenizerConfig(schedule=schedule),
        fid,
        inception_score,
        precision,
        recall,
    )


PUBLISHED = {
    "d16": _published(16, "256", 3.55, 274.4, 0.84, 0.51),
    "d20": _published(20, "256", 2.95, 302.6, 0.83, 0.56),
    "d24": _published(24, "256", 2.33, 312.9, 0.82, 0.59),
    "d30": _published(30, "256", 1.97, 323.1, 0.82, 0.59),
    "d36": _published(36, "512", 2.63, 303.2, shared_adaln=True),
}

FAMILY = Family(
    name="var",
    title="VAR",
    paper="https://arxiv.org/abs/2404.02905",
    media="image",
    takes="class",
    tokenizer=ImageTokenizer,
    transformer=VAR,
    transformer_config=VARConfig,
    settings=FOR_IMAGES,
    repository="FoundationVision/var",
    published=PUBLISHED,
    official_files=(TOKENIZER_FILE, "var.pth"),
    from_official=from_official,
    to_official=to_official,
)
