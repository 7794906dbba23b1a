"""Published models, as data: where their weights are, their configuration, and their published results."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.transformer.var import VARConfig

HUB_REPOSITORY = "FoundationVision/var"
HUB_TOKENIZER = "vae_ch160v4096z32.pth"


@dataclass(frozen=True)
class PublishedModel:
    """An official class-conditional ImageNet model.

    The results are FID, Inception Score, precision and recall of 50,000 images by the ADM evaluator, drawn with
    cfg 1.5, top-k 900, top-p 0.96, as its authors' code page states them; None where they state none.
    """

    file: str
    model: VARConfig
    tokenizer: TokenizerConfig
    fid: float
    inception_score: float
    precision: float | None
    recall: float | None


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
        VARConfig.of_depth(depth, schedule=schedule, shared_adaln=shared_adaln),
        TokenizerConfig(schedule=schedule),
        fid,
        inception_score,
        precision,
        recall,
    )


HUB_MODELS = {
    "d16": _published(16, "256", 3.55, 274.4, 0.84, 0.51),
    "d20": _published(20, "256", 2.95, 302.6, 0.83, 0.56),
    "d24": _published(24, "256", 2.33, 312.9, 0.82, 0.59),
    "d30": _published(30, "256", 1.97, 323.1, 0.82, 0.59),
    "d36": _published(36, "512", 2.63, 303.2, shared_adaln=True),
}
