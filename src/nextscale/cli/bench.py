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
from nextscale.io.files import write_json
from nextscale.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class BenchOptions(ModelOptions):
    """What is timed, how often, and beside what."""

    dtype: SamplingDtype = "auto"  # type: ignore[override]
    """Precision of matrix products and convolutions; auto is bfloat16 for large models where that is fast; int8 is
    faster and less exact, on some CPUs, with what is fast beside it, or what its name says."""
    random: str = ""
    """d16 ... d36: a model of this official size with random weights, in a temporary folder, instead of --model."""
    batch: int = 1
    """Images at once."""
    repeats: int = 5
    """Timed calls, after one to warm up."""
    json: Path | None = None
    """Also write what was found to this file."""
    against: str = ""
    """Command to run after every repeat, without a shell, which prints how many seconds a call of its own takes as its
    last line. The ratio of the medians is reported."""

    @contextmanager
    def source(self) -> Iterator[str]:
        """What to load, while it is there."""
        if not self.random:
            yield self.model
            return
        if self.model != "starter":
            raise InputError(f"two models were given, {self.model} and random {self.random}: expected one")
        with tempfile.TemporaryDirectory() as folder:
            write_random_model(Path(folder), self.random, self.seed)
            yield folder

    def open(self, source: str) -> Pipeline:
        return Pipeline.from_pretrained(source, self.device, self.dtype, self.schedule())

    @property
    def name(self) -> str:
        return f"random {self.random}" if self.random else self.model

    def tell(self, report: Report) -> None:
        print(report.table())
        if self.json:
            write_json(self.json, report.record())
