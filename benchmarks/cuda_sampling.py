"""Speed of drawing on one GPU, beside the reference: same weights, in turn on the same machine.

    git clone https://github.com/FoundationVision/VAR reference
    python benchmarks/cuda_sampling.py --reference reference --sizes d16 d30 --batches 64 128 --json gpu.json

Random weights of the official sizes. At every batch the reference under float16 autocast, ours in bfloat16, and ours
compiled (`nextscale.inference.compiled`) take turns: pictures drawn and decoded in a second, and milliseconds for one
picture alone. Medians of rounds, after two calls of each to warm up; the first of them compiles, which takes minutes. Beside
them stand the issue's targets for one H200, the peak of memory, and the share of the time that the counted work would
need at the rates of a product and a convolution, measured in the same run.

Not yet run on a GPU by us.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from reference import load_reference
from sampling_speed import LABEL, SETTINGS, we_draw

from nextscale.benchmark.drawing import least_seconds
from nextscale.benchmark.machine import Peak, measure_peak, peak_memory, wait
from nextscale.benchmark.random_weights import write_random_model
from nextscale.inference.compiled import compile_parts
from nextscale.pipeline import Pipeline
from nextscale.work import count_work

TARGETS = {"d16": 350.0, "d30": 90.0}
"""Pictures a second on one H200 at a batch of 64 or more."""
LATENCY_TARGETS = {"d16": 12.0}
"""Milliseconds for one picture."""
Ways = dict[str, Callable[[int], object]]


def make_ways(options: argparse.Namespace, folder: str) -> tuple[Pipeline, Ways]:
    """Each draws and decodes so many pictures."""
    eager = Pipeline.from_pretrained(folder, options.device, "bfloat16")
    ways: Ways = {"ours": lambda batch: we_draw(eager, batch)}
    if options.mode:
        compiled = Pipeline(eager.tokenizer, eager.model, eager.class_names, options.device, "bfloat16")
        compile_parts(*compiled.ready(), mode=options.mode)
        ways["ours, compiled"] = lambda batch: we_draw(compiled, batch)
    if options.reference:
        _, var = load_reference(options.reference, eager.tokenizer, eager.model)
        kind = torch.bfloat16 if eager.device.type == "cpu" else torch.float16

        def reference(batch: int) -> torch.Tensor:
            labels = torch.full((batch,), LABEL, device=eager.device)
            with torch.no_grad(), torch.autocast(eager.device.type, kind):
                return var.autoregressive_infer_cfg(batch, labels, g_seed=0, **SETTINGS)

        ways["reference"] = reference
    return eager, ways


def in_turn(ways: Ways, batch: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of a batch."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(-2, rounds):
        for name, run in ways.items():
            wait(device)
            start = time.perf_counter()
            run(batch)
            wait(device)
            if i >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def gpu_peak(pipeline: Pipeline) -> Peak:
    config, tokenizer = pipeline.model.config, pipeline.tokenizer.config
    rows = 64 * 2 * config.schedule.num_tokens if pipeline.device.type == "cuda" else 1360
    shape = rows, config.width, tokenizer.channels, tokenizer.image_size
    return measure_peak(*shape, torch.bfloat16, pipeline.device)


def measure(size: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of a size, printed as they come."""
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), size)
        pipeline, ways = make_ways(options, folder)
        peak = gpu_peak(pipeline)
        work = count_work(pipeline.tokenizer.config, pipeline.model.config)
        print(f"{size}: a product reaches {peak.product:,.0f} GFLOP/s, a convolution {peak.convolution:,.0f}")
        records = []
        for batch in sorted({1, *options.batches}):
            found = in_turn(ways, batch, options.rounds, pipeline.device)
            transformer = 2 * (work.condition + work.transformer)
            least = least_seconds({"transformer": batch * transformer, "decoder": batch * work.decoder}, peak)
            for name, seconds in found.items():
                record = {"size": size, "batch": batch, "way": name, "seconds": seconds, "share": least / seconds}
                records.append(record | {"pictures_per_second": batch / seconds})
                print(line(records[-1], found.get("reference")), flush=True)
        print(f"{size}: at most {peak_memory(pipeline.device) / 2**30:.1f} GiB, all ways together")
        return records


def line(record: dict[str, Any], reference: float | None) -> str:
    size, batch, seconds = record["size"], record["batch"], record["seconds"]
    if batch == 1:
        what, target = f"{1000 * seconds:.1f} ms a picture", LATENCY_TARGETS.get(size)
        goal = f", target at most {target:g}" if target else ""
    else:
        what, target = f"{batch / seconds:.1f} pictures a second", TARGETS.get(size) if batch >= 64 else None
        goal = f", target at least {target:g}" if target else ""
    beside = f", {reference / seconds:.2f} times the reference's speed" if reference else ""
    return f"{size}, batch {batch:>3}, {record['way']:<15} {what}{goal}, {record['share']:.0%} of the peak{beside}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw on a GPU, beside the reference.")
    parser.add_argument("--reference", type=Path, help="its code; left out, ours alone")
    parser.add_argument("--sizes", nargs="+", default=["d16", "d30"], choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--batches", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", default="max-autotune-no-cudagraphs", help="of torch.compile; empty: not compiled")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            parser.error("no CUDA GPU on this machine")
        print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    records = [record for size in options.sizes for record in measure(size, options)]
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
