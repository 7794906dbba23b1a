"""Compare the speed of training a transformer on one GPU with the reference: same weights, alternating runs.

    git clone https://github.com/FoundationVision/VAR reference
    python benchmarks/cuda_training.py --reference reference --size d16 --batch 64

Variants of a step with the official recipe on random images: the reference's own trainer under float16 autocast, with
TF32 and cuDNN's search for the fastest kernel, as its own programs set them, with tokens computed on the fly; ours in
bfloat16, with tokens on the fly and cached, plain and with compiled blocks. The script prints medians of rounds of a
few steps each, after a warm-up round, in which blocks are compiled; peak memory; and the rate of a step (its counted
FLOPs per second) as a share of a given rate. The default, 790 TFLOP/s, is the rate of a large product on one H200; the
target with cached tokens is 40 %.

Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from training_against_reference import fresh_models, make_batches, our_trainer, their_trainer

from nextscale.analysis.flops import training_flops
from nextscale.benchmark.machine import peak_memory, wait
from nextscale.runtime.device import tf32
from nextscale.training.presets.var import TRANSFORMERS

REFERENCE = "reference, on the fly"


def make_variants(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], float]]:
    """Return a function for a step of each variant, which returns the norm of the gradient."""
    recipe = replace(TRANSFORMERS[options.size], batch_size=options.batch, precision="bfloat16").on(device)
    tokenizer, model = (module.to(device) for module in fresh_models(options.size))
    images, tokens = (batch.to(device) for batch in make_batches(tokenizer, options.batch, 1000))

    variants: dict[str, Callable[[], float]] = {}
    if options.reference:
        theirs = their_trainer(options.reference, tokenizer, model, recipe, True)
        variants[REFERENCE] = partial(theirs.step, images, True)
    for compiled in (False, True) if options.compile else (False,):
        ours = our_trainer(tokenizer, deepcopy(model), recipe, True, compiled)
        how = ", compiled" * compiled
        variants[f"ours, on the fly{how}"] = partial(ours.step, images, recipe.precision)
        variants[f"ours, cached{how}"] = partial(ours.step, tokens, recipe.precision)
    return variants


def in_turn(
    variants: dict[str, Callable[[], float]], rounds: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds per step of each variant and round."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(-1, rounds):
        for name, step in variants.items():
            cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
            with cudnn if name == REFERENCE else nullcontext(), tf32(True):  # as both train in half precision
                wait(device)
                start = time.perf_counter()
                for _ in range(steps):
                    step()
                wait(device)
                if i >= 0:
                    found[name].append((time.perf_counter() - start) / steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare training on a GPU with the reference.")
    parser.add_argument("--reference", type=Path, help="folder of the reference's code; default: only ours")
    parser.add_argument("--size", default="d16", choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps per round")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rate", type=float, default=790.0, help="rate in TFLOP/s that the share refers to")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU on this machine")
    variants = make_variants(options, device)
    config = fresh_models(options.size)[1].config
    flop = options.batch * training_flops(config) * 1e9
    found = in_turn(variants, options.rounds, options.steps, device)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    for name, seconds in medians.items():
        ratio = f", {medians[REFERENCE] / seconds:.2f} times the reference's speed" if REFERENCE in medians else ""
        share = flop / seconds / options.rate / 1e12
        print(f"{options.size}, batch {options.batch}, {name:<26} {1000 * seconds:.0f} ms per step, {share:.1%}{ratio}")
    print(f"at most {peak_memory(device) / 2**30:.1f} GiB, all variants together")


if __name__ == "__main__":
    main()
