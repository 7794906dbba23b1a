"""``nextscale bench sample``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.benchmark.sampling import bench_sampling
from nextscale.cli.bench import BenchOptions


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Time drawing: images per second, where the time goes, and the share of the machine's peak.

    Example: nextscale bench sample --random d16 --batch 4 --json speed.json
    """

    cfg: float = 1.5
    """Guidance; without it, 0, half the work is left."""
    top_k: int = 900
    """Draw among the k most probable tokens."""
    top_p: float = 0.96
    """Draw among the most probable tokens that together reach p."""


def run(options: Options) -> None:
    o = options
    with o.source() as source:
        pipeline = o.open(source)
        o.tell(bench_sampling(pipeline, o.name, o.batch, o.repeats, o.cfg, o.top_k, o.top_p, o.seed, against=o.against))
