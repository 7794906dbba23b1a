"""``nextscale bench decode``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.benchmark.sampling import bench_decoding
from nextscale.cli.bench import BenchOptions


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Measure the time to decode random tokens.

    Example: nextscale bench decode --random d16 --dtype float32
    """


def run(options: Options) -> None:
    with options.source() as source:
        pipeline = options.open(source)
        options.tell(
            bench_decoding(pipeline, options.name, options.batch, options.repeats, options.seed, options.against)
        )
