"""Speed of drawing on one GPU, beside the reference: same weights, in turn on the same machine.

    git clone https://github.com/FoundationVision/VAR reference
    python benchmarks/cuda_sampling.py --reference reference --sizes d16 d30 --batches 64 128 --json gpu.json

Random weights of the official sizes. At every batch take turns: the reference under float16 autocast, with TF32 and
cuDNN's search for the fastest kernel, as its own programs set them; ours in bfloat16; ours recorded as one CUDA graph
(`nextscale.sampling.recorded`); and ours compiled (`nextscale.acceleration.compiled`) and recorded. Images drawn
and decoded in a second, and milliseconds for one image alone. Medians of rounds, after two calls of each to warm up;
the first of them records, or compiles, which takes minutes. Beside them stand the targets for one H200, the peak of
memory, the share of the time that the counted work would need at the rates of a product and a convolution, measured in
the same run, and how many of the tokens are those that ours draws eagerly with the same seed: all, for the graph.

Not yet run on a GPU by us. On a CPU (``--device cpu``) there are no graphs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from reference import load_reference
from sampling_speed import LABEL, SETTINGS

import nextscale as ns
from nextscale.acceleration.compiled import compile_parts
from nextscale.analysis.flops import count_work
from nextscale.benchmark.machine import Peak, measure_peak, peak_memory, wait
from nextscale.benchmark.random_weights import write_random_model
from nextscale.benchmark.sampling import least_seconds
from nextscale.pipeline import Pipeline
from nextscale.runtime.device import tf32
from nextscale.sampling.recorded import RecordedSampler
from nextscale.sampling.settings import SamplingSettings

TARGETS = {"d16": 350.0, "d30": 90.0}
"""Images a second on one H200 at a batch of 64 or more."""
LATENCY_TARGETS = {"d16": 12.0}
"""Milliseconds for one image."""
OURS, REFERENCE = "ours", "reference"
Way = Callable[[int], torch.Tensor]
"""Draws and decodes so many images. Ours returns the tokens, (B, L)."""


def graphs(pipeline: Pipeline) -> Way:
    """Recorded anew for another number of images."""

    @lru_cache(1)
    def graph(batch: int) -> RecordedSampler:
        return RecordedSampler(*pipeline.ready(), batch, SamplingSettings(**SETTINGS))

    return lambda batch: torch.cat(graph(batch)([LABEL] * batch, 0).tokens, dim=1)


def eagerly(pipeline: Pipeline) -> Way:
    return lambda batch: torch.cat(ns.sample(*pipeline.ready(), [LABEL] * batch, seed=0, **SETTINGS).tokens, dim=1)


def reference(path: Path, pipeline: Pipeline) -> Way:
    _, var = load_reference(path, pipeline.tokenizer, pipeline.model)
    kind = torch.bfloat16 if pipeline.device.type == "cpu" else torch.float16

    def draw(batch: int) -> torch.Tensor:
        labels = torch.full((batch,), LABEL, device=pipeline.device)
        fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
        with fastest, tf32(True), torch.no_grad(), torch.autocast(pipeline.device.type, kind):
            return var.autoregressive_infer_cfg(batch, labels, g_seed=0, **SETTINGS)

    return draw


def make_ways(options: argparse.Namespace, folder: str) -> tuple[Pipeline, dict[str, Way]]:
    eager = Pipeline.from_pretrained(folder, options.device, "bfloat16")
    ways = {OURS: eagerly(eager)}
    on_gpu = eager.device.type == "cuda"
    if on_gpu:
        ways["ours, a graph"] = graphs(eager)
    if options.mode:
        compiled = Pipeline(eager.tokenizer, eager.model, eager.class_names, options.device, "bfloat16")
        compile_parts(*compiled.ready(), mode=options.mode)
        ways["ours, compiled" + ", a graph" * on_gpu] = (graphs if on_gpu else eagerly)(compiled)
    if options.reference:
        ways[REFERENCE] = reference(options.reference, eager)
    return eager, ways


def in_turn(ways: dict[str, Way], batch: int, rounds: int, device: torch.device) -> dict[str, float]:
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
            for name in ways.keys() - {OURS, REFERENCE}:
                same = (ways[name](batch) == ways[OURS](batch)).float().mean()
                print(f"{size}, batch {batch:>3}, {name:<23} {same:.2%} of the tokens are those drawn eagerly")
            transformer = 2 * (work.condition + work.transformer)
            least = least_seconds({"transformer": batch * transformer, "decoder": batch * work.decoder}, peak)
            for name, seconds in found.items():
                record = {"size": size, "batch": batch, "way": name, "seconds": seconds, "share": least / seconds}
                records.append(record | {"images_per_second": batch / seconds})
                print(line(records[-1], found.get(REFERENCE)), flush=True)
        print(f"{size}: at most {peak_memory(pipeline.device) / 2**30:.1f} GiB, all ways together")
        return records


def line(record: dict[str, Any], reference: float | None) -> str:
    size, batch, seconds = record["size"], record["batch"], record["seconds"]
    if batch == 1:
        what, target = f"{1000 * seconds:.1f} ms an image", LATENCY_TARGETS.get(size)
        goal = f", target at most {target:g}" if target else ""
    else:
        what, target = f"{batch / seconds:.1f} images a second", TARGETS.get(size) if batch >= 64 else None
        goal = f", target at least {target:g}" if target else ""
    beside = f", {reference / seconds:.2f} times the reference's speed" if reference else ""
    return f"{size}, batch {batch:>3}, {record['way']:<23} {what}{goal}, {record['share']:.0%} of the peak{beside}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw on a GPU, beside the reference.")
    parser.add_argument("--reference", type=Path, help="its code; left out, ours alone")
    parser.add_argument("--sizes", nargs="+", default=["d16", "d30"], choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--batches", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", default="default", help="of torch.compile; empty: not compiled")
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
