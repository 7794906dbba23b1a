"""Measure the steps per second of `train transformer`, with tokens computed on the fly or cached, plain or compiled.

    nextscale tokenize --data cifar10 --tokenizer runs/tokenizer --crops 1 --out cache
    python benchmarks/training_speed.py --data cifar10 --cache cache --preset cifar10

The variants take turns, a few steps each, with a matrix product: all tokens of a batch times the first matrix of an
MLP, the most frequent operation of a transformer. The FLOPs of a step are counted while it runs; its share of the peak
is their rate relative to that of the product in the same round. All values are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from nextscale.data.cache import TOKENIZER, open_cache
from nextscale.data.dataset import Examples
from nextscale.data.loader import TrainingBatches
from nextscale.data.splits import open_splits
from nextscale.families.sources import load_tokenizer
from nextscale.runtime.device import pick_device, precision
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.class_setup import fresh_model
from nextscale.training.loop import training_step
from nextscale.training.parallel import Execution
from nextscale.training.presets.var import TRANSFORMERS
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.state import make_state
from nextscale.training.transformer_task import TransformerTask


def steps_of(
    data: Examples, tokenizer: ImageTokenizer, recipe: TransformerRecipe, device: torch.device, compiled: bool
) -> Iterator[None]:
    """Train, one step at a time: loading, tokens, forward, backward, optimizer, EMA."""
    model = fresh_model(tokenizer, recipe, len(data.source.class_names)).to(device)
    task = TransformerTask(model, tokenizer, recipe)
    state = make_state(task, recipe, Execution(compile=compiled), device)
    for step, parts in enumerate(TrainingBatches(data, recipe.batch_size, 0)):
        training_step(state, [part.to(device) for part in parts], recipe, step)
        yield


def product(rows: int, recipe: TransformerRecipe, device: torch.device) -> tuple[Callable[[], object], float]:
    """Return a product (rows, width) x (width, 4 width) in the recipe's precision, and its FLOPs."""
    a, b = (torch.randn(size, device=device) for size in ((rows, recipe.width), (recipe.width, 4 * recipe.width)))
    kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(recipe.precision, torch.float32)
    a, b = a.to(kind), b.to(kind)
    return lambda: a @ b, 2.0 * rows * recipe.width * 4 * recipe.width


def seconds(run: Callable[[], object], times: int, device: torch.device) -> float:
    """Return the mean seconds of a run."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training steps relative to a matrix product.")
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--preset", default="cifar10", choices=list(TRANSFORMERS))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps per round")
    options = parser.parse_args()

    device = pick_device(options.device)
    preset = TRANSFORMERS[options.preset]
    recipe = replace(preset, batch_size=options.batch_size or preset.batch_size, precision=options.dtype)
    recipe = recipe.on(device)
    precision(recipe.precision, device)
    tokenizer = load_tokenizer(options.cache / TOKENIZER).to(device)
    images, _ = open_splits(options.data, tokenizer.config.image_size, recipe.seed)
    tokens, _ = open_cache(options.cache, recipe.seed)
    variants: dict[str, Iterator[None]] = {}
    work: dict[str, float] = {}
    for source, data in (("images", images), ("cache", tokens)):
        for how in ("plain", "compiled"):
            variant = steps_of(data, tokenizer, recipe, device, compiled=how == "compiled")
            with FlopCounterMode(display=False) if how == "plain" else nullcontext() as counter:
                next(variant)
            variants[f"{source}, {how}"] = variant
            work[f"{source}, {how}"] = counter.get_total_flops() if counter else work[f"{source}, plain"]
            next(variant)

    multiply, flop = product(recipe.batch_size * tokenizer.schedule.num_tokens, recipe, device)
    repeats = max(1, round(0.3 / seconds(multiply, 3, device)))
    times: dict[str, list[float]] = {name: [] for name in (*variants, "product")}
    for _ in range(options.rounds):
        for name, variant in variants.items():
            times[name].append(seconds(lambda variant=variant: next(variant), options.steps, device))
        times["product"].append(seconds(multiply, repeats, device))

    rate = flop / statistics.median(times["product"])
    print(f"{options.preset}, batches of {recipe.batch_size}, {recipe.precision} on {device}")
    print(f"the product reaches {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':<22}{'steps/s':>9}{'GFLOP':>9}{'share of peak':>15}{'speed-up':>14}")
    first = statistics.median(times["images, plain"])
    for name in variants:
        shares = [work[name] * p / flop / t for t, p in zip(times[name], times["product"], strict=True)]
        t = statistics.median(times[name])
        print(f"{name:<22}{1 / t:>9.2f}{work[name] / 1e9:>9.1f}{statistics.median(shares):>15.0%}{first / t:>13.2f}x")


if __name__ == "__main__":
    main()
