"""``nextscale bench sample``."""

from __future__ import annotations

from dataclasses import dataclass, field

from nextscale.benchmark.sampling import bench_sampling
from nextscale.cli.bench import BenchOptions
from nextscale.sampling.settings import SamplingSettings


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Measure sampling: images per second, the time of each part, and the fraction of the machine's peak FLOP/s.

    Example: nextscale bench sample --random d16 --batch 4 --json speed.json
    """

    settings: SamplingSettings = field(default_factory=SamplingSettings)
    """How tokens are sampled."""


def run(options: Options) -> None:
    o = options
    with o.source() as source:
        pipeline = o.open(source)
        o.tell(bench_sampling(pipeline, o.name, o.batch, o.repeats, o.settings, o.seed, against=o.against))
