"""``nextscale bench load``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.benchmark.sampling import bench_loading
from nextscale.cli.bench import BenchOptions
from nextscale.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Measure the time to load a model, prepare it and generate the first image.

    Example: nextscale bench load --random d16
    """


def run(options: Options) -> None:
    if options.batch != 1:
        raise InputError(f"bench load generates one image: batch must be 1, not {options.batch}")
    with options.source() as source:
        options.tell(bench_loading(lambda: options.open(source), options.name, options.repeats, options.against))
