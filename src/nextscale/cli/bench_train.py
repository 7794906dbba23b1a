"""``nextscale bench train``."""

from __future__ import annotations

from dataclasses import dataclass

from nextscale.benchmark.training import bench_training
from nextscale.cli.bench import BenchOptions
from nextscale.pipeline import Pipeline
from nextscale.training.recipes import Precision


@dataclass(frozen=True, kw_only=True)
class Options(BenchOptions):
    """Measure the time of training steps of a transformer on random tokens.

    Example: nextscale bench train --random d16 --batch 2 --repeats 3
    """

    dtype: Precision = "auto"  # type: ignore[override]
    """Precision of matrix products. auto: that of "train transformer --preset d16" on this machine."""


def run(options: Options) -> None:
    o = options
    with o.source() as source:
        pipeline = Pipeline.from_pretrained(source, o.device, "float32", o.schedule())
        o.tell(bench_training(pipeline, o.name, o.batch, o.repeats, o.dtype, o.seed, o.against))
