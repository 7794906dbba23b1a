"""Measure the speed of sampling, decoding and loading."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from nextscale.analysis.flops import count_flops
from nextscale.benchmark.machine import Peak, measure_peak, peak_memory
from nextscale.benchmark.report import Report
from nextscale.benchmark.stages import timed_stages
from nextscale.benchmark.turns import Turns, take_turns
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import kept
from nextscale.sampling.settings import SamplingSettings


def bench_sampling(
    pipeline: Pipeline,
    model: str,
    batch: int,
    repeats: int,
    settings: SamplingSettings,
    seed: int,
    against: str = "",
) -> Report:
    """Time sampling and decoding images, with one seed for all."""
    tokenizer, transformer = pipeline.ready()
    labels = [i % len(pipeline.class_names) for i in range(check_batch(batch))]

    def generate() -> None:
        *_, step = pipeline.scales(labels, settings=settings, seed=seed)
        step.image()

    with kept(pipeline.device):  # as in nextscale sample
        turns = take_turns(generate, repeats, pipeline.device, against)
        memory = peak_memory(pipeline.device)
        with timed_stages(tokenizer, transformer, pipeline.device) as stages:
            start = time.perf_counter()
            generate()
            whole = time.perf_counter() - start
    stages["sampling"] = whole - sum(stages.values())
    work = count_flops(tokenizer.config, transformer.config)
    sequences = batch * (2 if settings.cfg else 1)
    gflop = {"transformer": sequences * (work.condition + work.transformer), "decoder": batch * work.decoder}
    return report(pipeline, "sample", model, batch, turns, stages=stages, gflop=gflop, peak_memory=memory)


def bench_decoding(pipeline: Pipeline, model: str, batch: int, repeats: int, seed: int, against: str = "") -> Report:
    """Time decoding images from random tokens."""
    tokenizer, _ = pipeline.ready()
    generator = torch.Generator().manual_seed(seed)
    sizes = [(check_batch(batch), n) for n in tokenizer.schedule.tokens_per_scale]
    codes = tokenizer.config.codebook_size
    tokens = [torch.randint(codes, size, generator=generator).to(pipeline.device) for size in sizes]
    with kept(pipeline.device):
        turns = take_turns(lambda: tokenizer.decode(tokens), repeats, pipeline.device, against)
    memory = peak_memory(pipeline.device)
    gflop = {"decoder": batch * count_flops(tokenizer.config, pipeline.model.config).decoder}
    return report(pipeline, "decode", model, batch, turns, gflop=gflop, peak_memory=memory)


def bench_loading(load: Callable[[], Pipeline], model: str, repeats: int, against: str = "") -> Report:
    """Time loading a model up to the first image, without the import of PyTorch."""
    stages: dict[str, float] = {}

    def first_image() -> Pipeline:
        moments = [time.perf_counter()]
        pipeline = load()
        moments.append(time.perf_counter())
        pipeline.ready()
        moments.append(time.perf_counter())
        with kept(pipeline.device):
            pipeline([0], seed=0)
        moments.append(time.perf_counter())
        names = ("read", "make ready", "first image")
        stages.update({name: b - a for name, a, b in zip(names, moments, moments[1:], strict=False)})
        return pipeline

    pipeline = first_image()
    device = pipeline.device
    described = model, str(device), pipeline.dtype
    del pipeline
    turns = take_turns(first_image, repeats, device, against)
    return Report(
        "load", *described, 1, "models", turns.ours, turns.theirs, peak_memory=peak_memory(device), stages=stages
    )


def report(pipeline: Pipeline, what: str, model: str, batch: int, turns: Turns, **fields: Any) -> Report:
    """Make a report, and measure the peak speed of the machine for it."""
    config, tokenizer = pipeline.model.config, pipeline.tokenizer.config
    rows = 2 * config.schedule.num_tokens
    peak = measure_peak(
        rows, config.width, tokenizer.channels, tokenizer.image_size, pipeline.precision.dtype, pipeline.device
    )
    described = what, model, str(pipeline.device), pipeline.dtype, batch
    found = Report(*described, "images", turns.ours, turns.theirs, **fields)
    found.peak = {"product": peak.product, "convolution": peak.convolution}
    found.share_of_peak = least_seconds(found.gflop, peak) / found.median
    return found


def least_seconds(gflop: dict[str, float], peak: Peak) -> float:
    """Return the time that operations need at peak speed: convolutions for the decoder, products for the rest."""
    return sum(work / (peak.convolution if name == "decoder" else peak.product) for name, work in gflop.items())


def check_batch(batch: int) -> int:
    """Return the batch size; raise InputError unless it is at least 1."""
    if batch < 1:
        raise InputError(f"batch must be at least 1, not {batch}")
    return batch
