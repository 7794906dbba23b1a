"""The result of a benchmark, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import platform
import statistics
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Report:
    """The result of a benchmark. All times are in seconds per call."""

    what: str
    model: str
    device: str
    dtype: str
    batch: int
    unit: str
    """The kind of items in a batch, such as images."""
    seconds: list[float]
    theirs: list[float] = field(default_factory=list)
    """Seconds of the other command, measured in turn with ours."""
    peak_memory: int = 0
    """In bytes, of the whole process."""
    estimated_memory: int = 0
    """In bytes, from `nextscale.analysis.memory`, without Python and PyTorch; 0 where there is none."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage."""
    gflop: dict[str, float] = field(default_factory=dict)
    """Floating-point operations of a call, in GFLOP."""
    peak: dict[str, float] = field(default_factory=dict)
    """Peak speed of the machine for a product and for a convolution, in GFLOP/s."""
    share_of_peak: float | None = None
    """The time that the operations would need at peak speed, divided by the median."""
    threads: int = field(default_factory=torch.get_num_threads)
    torch_version: str = torch.__version__
    machine: str = field(default_factory=platform.machine)

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """95th percentile of the seconds."""
        return sorted(self.seconds)[-(-95 * len(self.seconds) // 100) - 1]

    @property
    def ratio(self) -> float | None:
        """Median of the other command divided by ours."""
        return statistics.median(self.theirs) / self.median if self.theirs else None

    def record(self) -> dict[str, Any]:
        """Return all values as a JSON object."""
        more = {"median": self.median, "p95": self.p95, "per_second": self.batch / self.median, "ratio": self.ratio}
        return dataclasses.asdict(self) | more

    def table(self) -> str:
        """Return the result as text."""
        lines = [
            f"{self.what}: {self.model}, batch {self.batch}, {self.dtype} on {self.device}, {self.threads} threads",
            f"{self.unit} per second   {self.batch / self.median:.4g}",
            f"seconds              median {self.median:.4g}, 95th percentile {self.p95:.4g}, of {len(self.seconds)}",
            f"peak memory          {self.peak_memory / 2**20:,.0f} MiB"
            + (f", {self.estimated_memory / 2**20:,.0f} estimated" if self.estimated_memory else ""),
        ]
        for stage, seconds in self.stages.items():
            flops = f", {self.gflop[stage]:,.1f} GFLOP" if stage in self.gflop else ""
            lines.append(f"  {stage:<19}{seconds:.4g} s{flops}")
        if self.peak:
            rates = ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in self.peak.items())
            lines.append(f"the machine          {rates}")
        if self.share_of_peak is not None:
            lines.append(f"share of the peak    {self.share_of_peak:.0%}")
        if self.ratio is not None:
            theirs = statistics.median(self.theirs)
            lines.append(f"the other command    median {theirs:.4g} s: ours is {self.ratio:.2f} times as fast")
        return "\n".join(lines)
