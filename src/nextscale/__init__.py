"""nextscale: next-scale image generation (VAR, arXiv 2404.02905; Infinity, arXiv 2412.04431;
InfinityStar, arXiv 2511.04675).

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from nextscale.conditioning.text import TextFeatures
    from nextscale.errors import InputError
    from nextscale.evaluation.evaluate import evaluate
    from nextscale.official.families import from_official, to_official
    from nextscale.pipeline import Pipeline
    from nextscale.sampling.sampler import sample, sample_scales
    from nextscale.sampling.token_edit import TokenEdit
    from nextscale.scales.schedule import ScaleSchedule
    from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
    from nextscale.tokenizer.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
    from nextscale.training.tokenizer_setup import train_tokenizer
    from nextscale.transformer.infinity import Infinity
    from nextscale.transformer.infinity_config import InfinityConfig
    from nextscale.transformer.infinity_star import InfinityStar
    from nextscale.transformer.infinity_star_config import InfinityStarConfig
    from nextscale.transformer.var import VAR, VARConfig
    from nextscale.workflows.train import train_transformer

_HOME = {
    "ScaleSchedule": "nextscale.scales.schedule",
    "ImageTokenizer": "nextscale.tokenizer.tokenizer",
    "TokenizerConfig": "nextscale.tokenizer.tokenizer",
    "VAR": "nextscale.transformer.var",
    "VARConfig": "nextscale.transformer.var",
    "Infinity": "nextscale.transformer.infinity",
    "InfinityConfig": "nextscale.transformer.infinity_config",
    "VideoTokenizer": "nextscale.tokenizer.video_tokenizer",
    "VideoTokenizerConfig": "nextscale.tokenizer.video_tokenizer",
    "InfinityStar": "nextscale.transformer.infinity_star",
    "InfinityStarConfig": "nextscale.transformer.infinity_star_config",
    "sample": "nextscale.sampling.sampler",
    "sample_scales": "nextscale.sampling.sampler",
    "TokenEdit": "nextscale.sampling.token_edit",
    "TextFeatures": "nextscale.conditioning.text",
    "from_official": "nextscale.official.families",
    "to_official": "nextscale.official.families",
    "Pipeline": "nextscale.pipeline",
    "InputError": "nextscale.errors",
    "evaluate": "nextscale.evaluation.evaluate",
    "train_tokenizer": "nextscale.training.tokenizer_setup",
    "train_transformer": "nextscale.workflows.train",
}

__all__ = [
    "VAR",
    "ImageTokenizer",
    "Infinity",
    "InfinityConfig",
    "InfinityStar",
    "InfinityStarConfig",
    "InputError",
    "Pipeline",
    "ScaleSchedule",
    "TextFeatures",
    "TokenEdit",
    "TokenizerConfig",
    "VARConfig",
    "VideoTokenizer",
    "VideoTokenizerConfig",
    "__version__",
    "evaluate",
    "from_official",
    "sample",
    "sample_scales",
    "to_official",
    "train_tokenizer",
    "train_transformer",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'nextscale' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
