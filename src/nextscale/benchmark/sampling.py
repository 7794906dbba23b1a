"""Measure the speed of sampling, decoding and loading."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from nextscale.analysis.flops import PROMPT_TOKENS, count_flops
from nextscale.analysis.memory import estimate_memory
from nextscale.benchmark.machine import Peak, measure_peak, peak_memory
from nextscale.benchmark.report import Report
from nextscale.benchmark.stages import timed_stages
from nextscale.benchmark.turns import Turns, take_turns
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import kept
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.schedule import ScaleSchedule


def bench_sampling(
    pipeline: Pipeline,
    model: str,
    batch: int,
    repeats: int,
    settings: SamplingSettings,
    seed: int,
    against: str = "",
    schedule: ScaleSchedule | None = None,
) -> Report:
    """Time sampling and decoding images, with one seed for all.

    Args:
        schedule: the scales; None means those of the model.
    """
    wanted = random_requests(pipeline, check_batch(batch), seed)
    tokenizer, transformer = pipeline.ready()
    schedule = schedule or tokenizer.schedule

    def generate() -> None:
        pipeline.scales(wanted, settings=settings, seed=seed, schedule=schedule).result()

    numbers = tokenizer.config.full_size_numbers(schedule)
    with kept(pipeline.device, numbers * pipeline.precision.dtype.itemsize):  # as in nextscale sample
        turns = take_turns(generate, repeats, pipeline.device, against)
        memory = peak_memory(pipeline.device)
        with timed_stages(tokenizer, transformer, pipeline.device) as stages:
            start = time.perf_counter()
            generate()
            whole = time.perf_counter() - start
    stages["sampling"] = whole - sum(stages.values())
    work = count_flops(tokenizer.config, transformer.config, schedule)
    guided = any(transformer.guidance_weights(settings.cfg, schedule))
    gflop = {"transformer": batch * (2 if guided else 1) * work.sampling, "decoder": batch * work.decoder}
    what = pipeline.tokenizer.config, pipeline.model.config, pipeline.precision, pipeline.device
    needed = estimate_memory(*what, schedule=schedule, num_images=batch, guided=guided)
    measured = {"stages": stages, "gflop": gflop, "peak_memory": memory, "estimated_memory": needed.peak}
    return report(pipeline, "sample", model, batch, turns, schedule, **measured)


def random_requests(pipeline: Pipeline, batch: int, seed: int = 0) -> Any:
    """Return class labels, or random features of prompts of `PROMPT_TOKENS` tokens: no text encoder is needed."""
    if pipeline.family.takes == "class":
        return [i % len(pipeline.class_names) for i in range(batch)]
    generator = torch.Generator().manual_seed(seed)
    config = pipeline.model.config
    length = min(PROMPT_TOKENS, config.text_rows)
    features = torch.randn(batch * length, config.text_width, generator=generator)
    return TextFeatures(features, [length] * batch)


def bench_decoding(pipeline: Pipeline, model: str, batch: int, repeats: int, seed: int, against: str = "") -> Report:
    """Time decoding images from random tokens."""
    tokenizer, _ = pipeline.ready()
    generator = torch.Generator().manual_seed(seed)
    sizes = [(check_batch(batch), n) for n in tokenizer.schedule.tokens_per_scale]
    codebook = tokenizer.pyramid.codebook
    shapes = [(*size, *codebook.token_shape) for size in sizes]
    random = [torch.randint(codebook.choices, shape, generator=generator) for shape in shapes]
    tokens = [each.to(pipeline.device, codebook.token_dtype) for each in random]
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
            pipeline(random_requests(pipeline, 1), seed=0)
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


def report(
    pipeline: Pipeline,
    what: str,
    model: str,
    batch: int,
    turns: Turns,
    schedule: ScaleSchedule | None = None,
    **fields: Any,
) -> Report:
    """Make a report, and measure the peak speed of the machine for it."""
    config, tokenizer = pipeline.model.config, pipeline.tokenizer.config
    scales = pipeline.tokenizer.schedule_or_own(schedule)
    size = tokenizer.image_size_of(scales)
    rows, dtype = 2 * scales.num_tokens, pipeline.precision.dtype
    peak = measure_peak(rows, config.width, tokenizer.channels, size, dtype, pipeline.device)
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
