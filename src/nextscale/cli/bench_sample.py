"""``nextscale bench sample``."""

from __future__ import annotations

from dataclasses import dataclass, field

from nextscale.benchmark.sampling import bench_sampling
from nextscale.cli.bench import BenchOptions
from nextscale.sampling.settings import METRICS, SamplingSettings
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Measure sampling: images per second, the time of each part, and the fraction of the machine's peak FLOP/s.

    Text-to-image models get random features as prompts: no text encoder is needed.

    Example: nextscale bench sample --random d16 --batch 4 --json speed.json

    Example: nextscale bench sample --random infinity-2b --budget 0.06M
    """

    shape: ImageShape = ANY_SHAPE
    """The shape of the images, for text-to-image models."""
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    """How tokens are sampled. Without flags, text-to-image models use their own defaults."""


def run(options: Options) -> None:
    o = options
    with o.source() as source:
        pipeline = o.open(source)
        is_default = o.settings == METRICS and pipeline.family.takes == "prompt"
        settings = pipeline.settings if is_default else o.settings
        schedule = o.shape.schedule(pipeline.tokenizer.schedule, pipeline.tokenizer.config.image_size)
        what = pipeline, o.name, o.batch, o.repeats, settings, o.seed
        o.tell(bench_sampling(*what, against=o.against, schedule=schedule))
