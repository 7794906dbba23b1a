"""Flags and steps that all benchmarks share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nextscale.benchmark.random_weights import write_random_model
from nextscale.benchmark.report import Report
from nextscale.cli.models import ModelOptions, SamplingDtype
from nextscale.errors import InputError
from nextscale.families.sources import only_images
from nextscale.io.files import check_writable_file, write_json
from nextscale.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class BenchOptions(ModelOptions):
    """The model, the number of timed calls, and the command to compare with."""

    dtype: SamplingDtype = "auto"
    """Precision of matrix products and convolutions. auto: bfloat16 for large models on devices that compute it fast,
    else float32. int8: 8-bit products at large scales, faster but less exact, for CPUs with AVX512-VNNI. int8-float32
    and int8-bfloat16 also set the precision of everything that is not int8."""
    random: str = ""
    """Use a model of an official size with random weights, instead of --model: d16 ... d36, or infinity-layer12 ...
    infinity-layer48, infinity-2b, infinity-8b."""
    batch: int = 1
    """Number of images per batch."""
    repeats: int = 5
    """Number of timed calls, after one call to warm up."""
    seed: int = 0
    """Seed of random weights, tokens and samples."""
    json: Path | None = None
    """Also write the results to this JSON file."""
    against: str = ""
    """Command to compare with, run after every repeat, without a shell. The last line of its output must be the
    duration of one call in seconds. The report contains the ratio of the two medians."""

    @contextmanager
    def source(self) -> Iterator[str]:
        """Yield the model to load. A random one exists only inside the context."""
        if self.json:
            check_writable_file(self.json, "a JSON file")
        if not self.random:
            yield self.model
            return
        if self.model != "starter":
            raise InputError(f"expected one model, got two: {self.model} and random {self.random}")
        with tempfile.TemporaryDirectory() as folder:
            write_random_model(Path(folder), self.random, self.seed)
            yield folder

    def open(self, source: str) -> Pipeline:
        pipeline = Pipeline.from_pretrained(source, self.device, self.dtype, self.schedule())
        only_images(pipeline.tokenizer, "bench")
        return pipeline

    @property
    def name(self) -> str:
        return f"random {self.random}" if self.random else self.model

    def tell(self, report: Report) -> None:
        print(report.table())
        if self.json:
            write_json(self.json, report.record())
