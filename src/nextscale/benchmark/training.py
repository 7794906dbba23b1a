"""Measure the speed of training a transformer."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import torch

from nextscale.analysis.flops import training_flops
from nextscale.benchmark.machine import measure_peak, peak_memory
from nextscale.benchmark.report import Report
from nextscale.benchmark.sampling import check_batch, least_seconds
from nextscale.benchmark.turns import take_turns
from nextscale.data.content import Tokens
from nextscale.data.loader import Batch, BatchSlice
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import kept
from nextscale.runtime.device import DTYPES
from nextscale.training.loop import training_step
from nextscale.training.parallel import Execution
from nextscale.training.presets.var import official
from nextscale.training.recipes import Precision
from nextscale.training.state import make_state
from nextscale.training.transformer_task import TransformerTask


def bench_training(
    pipeline: Pipeline, model: str, batch: int, repeats: int, precision: Precision, seed: int, against: str = ""
) -> Report:
    """Time training steps on random tokens: forward, backward, optimizer and EMA, with the official recipe.

    It changes the weights of the pipeline's transformer.
    """
    config, device = pipeline.model.config, pipeline.device
    recipe = official(config.depth, epochs=1, base_rate=1e-4, init_gamma=1e-3, final_ratio=0.1)
    recipe = replace(recipe, batch_size=check_batch(batch), precision=precision, width=config.width, heads=config.heads)
    recipe = recipe.on(device)
    state = make_state(TransformerTask(pipeline.model.train(), pipeline.tokenizer, recipe), recipe, Execution(), device)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(config.codebook_size, (batch, config.schedule.num_tokens), generator=generator)
    labels = torch.randint(config.num_classes, (batch,), generator=generator)
    parts = [Batch(Tokens(tokens), labels, (), BatchSlice(0, batch, batch)).to(device)]
    steps = count()
    with kept(device):  # as in a training run
        turns = take_turns(lambda: training_step(state, parts, recipe, next(steps)), repeats, device, against)
        memory = peak_memory(device)
    dtype, size = DTYPES[recipe.precision], pipeline.tokenizer.config.image_size
    rows = batch * config.schedule.num_tokens
    peak = measure_peak(rows, config.width, pipeline.tokenizer.config.channels, size, dtype, device)
    gflop = {"training": batch * training_flops(config)}
    found = Report("train", model, str(device), recipe.precision, batch, "images", turns.ours, turns.theirs)
    found.peak_memory, found.gflop = memory, gflop
    found.peak = {"product": peak.product, "convolution": peak.convolution}
    found.share_of_peak = least_seconds(gflop, peak) / found.median
    return found
