"""Measure how time and memory of sampling grow with batch, image size and depth of the transformer.

    python benchmarks/cost_curves.py --json curves.json --plot docs/cost-curves.png

Every point runs in its own process: a model of the official proportions samples and decodes one batch with guidance, in
the default precision of this machine. If the first time was below 20 seconds, it is measured again. The weights are
random numbers from one small buffer that all matrices share until they are packed; a packed model is as large and as
fast as a trained one. The prediction next to the time is the counted GFLOP at the rates of a matrix product and a
convolution that the same process reaches right afterwards. Memory is the peak of the process, including 0.3 GiB for
PyTorch.

The schedules are the named ones for 256, 512 and 1024 pixels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

SETTINGS: dict[str, Any] = {"cfg": 1.5, "top_k": 900, "top_p": 0.96, "seed": 0}
AGAIN = 20
"""Points faster than this many seconds are measured again."""
STD = 0.02
"""Standard deviation of the random weights; the norms in the models compensate for its size."""
AXES = {"batch": "images per batch", "pixels": "pixels per side", "depth": "depth"}


class Point(NamedTuple):
    """One measurement."""

    batch: int = 1
    pixels: int = 256
    depth: int = 16

    def __str__(self) -> str:
        return f"d{self.depth}, {self.pixels} px, batch {self.batch}"


def make_parts(point: Point) -> tuple[Any, Any, str]:
    """Return (tokenizer, transformer, precision), ready for sampling."""
    import torch

    import nextscale as ns
    from nextscale.acceleration.precision import Precision
    from nextscale.acceleration.ready import make_ready

    schedule = ns.ScaleSchedule.named(point.pixels)
    with torch.device("meta"):
        tokenizer = ns.ImageTokenizer(ns.TokenizerConfig(schedule=schedule))
        model = ns.VAR(ns.VARConfig.of_depth(point.depth, schedule=schedule))
    numbers = torch.empty(0)
    for module in (tokenizer, model):
        expected = module.state_dict()
        most = max(tensor.numel() for tensor in expected.values())
        if most > len(numbers):
            numbers = torch.randn(most, generator=torch.Generator().manual_seed(0)) * STD
        state = {name: share(name, tensor, numbers) for name, tensor in expected.items()}
        module.load_state_dict(state, assign=True)
    precision = Precision.parse("auto", model.config.width, torch.device("cpu"))
    return *make_ready(tokenizer, model, precision), precision.name


def share(name: str, tensor: Any, numbers: Any) -> Any:
    """Return a view of the numbers for matrices and kernels, 1 for the weights of norms, 0 for biases."""
    from nextscale.benchmark.random_weights import random_like

    if tensor.ndim == 1 or name.endswith("log_scale"):
        return random_like(name, tensor, None)  # type: ignore[arg-type]
    return numbers[: tensor.numel()].view(tensor.shape)


def measure(point: Point) -> dict[str, Any]:
    """Measure a point in this process."""
    import torch

    import nextscale as ns
    from nextscale.benchmark.machine import measure_peak, peak_memory
    from nextscale.benchmark.sampling import least_seconds
    from nextscale.runtime.device import DTYPES

    tokenizer, model, dtype = make_parts(point)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        ns.sample(tokenizer, model, [207] * point.batch, **SETTINGS)
        seconds = time.perf_counter() - start
        if seconds > AGAIN:
            break
    memory = peak_memory(torch.device("cpu"))
    gflop = count(point)
    width = model.config.width
    peak = measure_peak(1360, width, tokenizer.config.channels, (256, 256), DTYPES[dtype], torch.device("cpu"))
    return {
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "memory_gib": memory / 2**30,
        "gflop": gflop,
        "peak": dataclasses.asdict(peak),
        "predicted": least_seconds(gflop, peak),
    }


def count(point: Point) -> dict[str, float]:
    """Return the GFLOP of a batch, with guidance."""
    import nextscale as ns
    from nextscale.analysis.flops import count_flops

    schedule = ns.ScaleSchedule.named(point.pixels)
    work = count_flops(ns.TokenizerConfig(schedule=schedule), ns.VARConfig.of_depth(point.depth, schedule=schedule))
    transformer = 2 * (work.condition + work.transformer)
    return {"transformer": point.batch * transformer, "decoder": point.batch * work.decoder}


def run(point: Point, limit: float) -> dict[str, Any] | None:
    """Measure a point in a separate process. Return None if it took too long."""
    command = [sys.executable, __file__, "--point", *map(str, point)]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=4 * limit + 60)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def curves(points: dict[str, list[Point]], limit: float) -> list[dict[str, Any]]:
    """Measure all points, except those that would exceed the limit at the speed of the point before."""
    found: dict[Point, dict[str, Any]] = {}
    for axis, row in points.items():
        pace = 0.0  # seconds per GFLOP
        for point in row:
            if point not in found:
                if (expected := pace * sum(count(point).values())) > limit:
                    print(f"{point}: skipped, it would take about {expected:.0f} seconds", flush=True)
                    continue
                if (figures := run(point, limit)) is None:
                    print(f"{point}: skipped, it took too long", flush=True)
                    continue
                found[point] = {**point._asdict(), "axes": [], **figures}
                print(line(found[point]), flush=True)
            record = found[point]
            record["axes"].append(axis)
            pace = record["seconds"] / sum(record["gflop"].values())
    return list(found.values())


def line(record: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [f"d{record['depth']}", record["pixels"], record["batch"], f"{sum(record['gflop'].values()):,.0f}"]
    cells += [f"{record[name]:.2f}" for name in ("predicted", "seconds")]
    cells += [f"{record['predicted'] / record['seconds']:.0%}", f"{record['seconds'] / record['batch']:.2f}"]
    return "| " + " | ".join(map(str, [*cells, f"{record['memory_gib']:.2f}"])) + " |"


HEADER = "| model | pixels | batch | GFLOP | seconds at the peak | seconds | share | seconds per image | memory, GiB |"


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Plot seconds above memory, one column per axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(AXES), figsize=(10, 5.6), sharex="col", squeeze=False)
    for column, (axis, name) in enumerate(AXES.items()):
        row = sorted((r for r in records if axis in r["axes"]), key=lambda r: r[axis])
        x = [r[axis] for r in row]
        above, below = axes[0][column], axes[1][column]
        above.plot(x, [r["seconds"] for r in row], "o-", color="#1f5fa8", label="measured")
        above.plot(x, [r["predicted"] for r in row], "--", color="#777777", label="counted FLOPs at the measured peak")
        below.plot(x, [r["memory_gib"] for r in row], "o-", color="#b3541e")
        above.set(xscale="log", yscale="log", xticks=x, title=", ".join(fixed(axis)))
        below.set(xlabel=name, ylim=(0, None))
        above.minorticks_off()
        below.set_xticks(x, [str(value) for value in x])
        for panel in (above, below):
            panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds")
    axes[1][0].set_ylabel("peak memory, GiB")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def fixed(axis: str) -> Iterable[str]:
    """Return the values of the axes that stay fixed."""
    base = Point()
    words = {"depth": f"d{base.depth}", "pixels": f"{base.pixels} pixels", "batch": f"batch {base.batch}"}
    return (word for name, word in words.items() if name != axis)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cost of sampling over batches, sizes and depths.")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--pixels", type=int, nargs="*", default=[256, 512, 1024], choices=[256, 512, 1024])
    parser.add_argument("--depths", type=int, nargs="*", default=[16, 20, 24, 30, 36])
    parser.add_argument("--limit", type=float, default=180, help="longest time of one batch in seconds")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--plot", type=Path, help="write the plot to this file; needs matplotlib")
    parser.add_argument("--point", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(Point(*options.point))))
        return
    points = {
        "batch": [Point(batch=batch) for batch in sorted(options.batches)],
        "pixels": [Point(pixels=pixels) for pixels in sorted(options.pixels)],
        "depth": [Point(depth=depth) for depth in sorted(options.depths)],
    }
    start = time.monotonic()
    print(HEADER, "|" + "---|" * HEADER.count(" |"), sep="\n", flush=True)
    records = curves(points, options.limit)
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")
    if options.plot:
        plot(records, options.plot)
    first = records[0] if records else {}
    print(f"{first.get('dtype')}, {first.get('threads')} threads, {time.monotonic() - start:.0f} seconds in total")


if __name__ == "__main__":
    main()
