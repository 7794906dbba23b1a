"""Training steps beside the reference: same weights, images and labels, in turn on the same machine.

    git clone https://github.com/FoundationVision/VAR reference
    OMP_NUM_THREADS=2 python benchmarks/training_against_reference.py --reference reference --rounds 5

A transformer of an official size with fresh weights, the official schedule and tokenizer, on random images. In every
round each way takes one step by the official recipe: the reference's own trainer, in float32 as is its default; ours in
float32 and as it is by default here, with tokens made on the fly or as a cache has them. The reference is in a process
of its own, and so are we, as ``nextscale train`` also decides what becomes of free memory. Medians of seconds on the
clock and of seconds of the processor, which others on a shared machine disturb less, with the ratio to the reference
and by stage. First, with nothing dropped at random, the gradient's norm of both. With --only memory, what a step holds
at most above parameters, gradients, optimizer state and tokenizer, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from reference import CPU, Ways, held, load_reference, median, own_peak, quiet, take_turns
from torch import Tensor, nn

from nextscale.data.content import Pixels, Tokens
from nextscale.data.loader import Batch, BatchSlice
from nextscale.runtime.allocator import WITHOUT_SPLINTERS, kept
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.training.loop import training_step
from nextscale.training.parallel import Execution
from nextscale.training.presets.var import TRANSFORMERS
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.transformer_task import TransformerTask
from nextscale.transformer.var import VAR, VARConfig

STAGES = ("encode", "forward", "backward", "optimizer")
REFERENCE, OURS, OURS_CACHED = "reference float32", "ours float32", "ours float32, cached"
DEFAULT, DEFAULT_CACHED, AUTOCAST = "ours by default", "ours by default, cached", "reference bfloat16"


@dataclass
class Stopwatch:
    """Seconds of the processor that each stage of a step took, one of each step."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    since: float = 0.0

    def start(self) -> None:
        self.since = time.process_time()

    def ends(self, stage: str) -> None:
        now = time.process_time()
        self.seconds[stage].append(now - self.since)
        self.since = now

    def around(self, owner: Any, name: str, before: str = "", after: str = "") -> None:
        """From now on a stage ends before a method of ``owner`` runs, or after it."""
        method = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if before:
                self.ends(before)
            result = method(*arguments, **named)
            if after:
                self.ends(after)
            return result

        setattr(owner, name, call)


@dataclass
class Trainer:
    """One implementation: its network and optimizer, and a step of it, which gives the gradient's norm."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    run: Callable[..., float]
    watch: Stopwatch

    def step(self, *arguments: Any) -> float:
        self.watch.start()
        norm = self.run(*arguments)
        self.watch.ends("optimizer")
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def fresh_models(size: str) -> tuple[ImageTokenizer, VAR]:
    """With fresh weights: the time of a step does not depend on them."""
    recipe, generator = TRANSFORMERS[size], torch.Generator().manual_seed(0)
    tokenizer = ImageTokenizer(TokenizerConfig()).init_weights(generator).requires_grad_(False)
    model = VAR(VARConfig.of_depth(recipe.depth, shared_adaln=recipe.shared_adaln))
    return tokenizer, model.init_weights(generator, recipe.init_gamma)


def our_trainer(
    tokenizer: ImageTokenizer, model: VAR, recipe: TransformerRecipe, drop: bool, compiled: bool = False
) -> Trainer:
    """``nextscale train var``, where the models are; a step takes a batch and the precision."""
    rates = {} if drop else {"label_drop": 0.0, "drop_path": 0.0}
    recipe = replace(recipe, **rates)
    task = TransformerTask(model.train(), tokenizer, recipe)
    state = make_state(task, recipe, Execution(compile=compiled), model.device)
    steps, watch = count(), Stopwatch()

    def step(batch: Batch, precision: str) -> float:
        metrics = training_step(state, [batch], replace(recipe, precision=precision), next(steps))
        return metrics["grad_norm"].item()

    watch.around(task, "tokens", after="encode")
    watch.around(task, "losses", after="forward")
    optimizer = state.optimizers[MODEL]
    optimizer.register_step_pre_hook(lambda *_: watch.ends("backward"))
    return Trainer(model, optimizer, step, watch)


def their_trainer(path: Path, tokenizer: ImageTokenizer, model: VAR, recipe: TransformerRecipe, drop: bool) -> Trainer:
    """The reference's trainer with its optimizer and groups, where the models are; a step takes a batch, and whether to
    autocast, on a GPU to float16 with scaled losses, as is its default there."""
    vae, var = load_reference(path, tokenizer, model)
    on_gpu = model.device.type == "cuda"
    loggers: Any = ModuleType("utils.misc")  # the reference's own needs packages that training does not
    loggers.MetricLogger = loggers.TensorboardLogger = object
    sys.modules["utils.misc"] = loggers
    from trainer import VARTrainer  # of the reference, as are the next two
    from utils.amp_sc import AmpOptimizer
    from utils.lr_control import filter_params

    var.train().requires_grad_(True)
    if not drop:
        var.cond_drop_rate = 0.0
        for module in var.modules():
            if type(module).__name__ == "DropPath":
                module.eval()
    with quiet():
        no_decay = {"pos_start", "pos_1LC", "lvl_embed", "ada_gss", "scale_mul"}
        names, parameters, groups = filter_params(var, nowd_keys=no_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=0, fused=True)
    for group in optimizer.param_groups:
        group["weight_decay"] = recipe.weight_decay * group["wd_sc"]
    amp = AmpOptimizer(int(on_gpu), optimizer, names, parameters, grad_clip=recipe.clip)
    plain, sizes, watch = nullcontext(), var.patch_nums, Stopwatch()
    half = amp.amp_ctx if on_gpu else torch.autocast("cpu", torch.bfloat16)
    trainer = VARTrainer(model.device, sizes, tuple(16 * n for n in sizes), vae, var, var, amp, label_smooth=0.0)
    log = SimpleNamespace(log_iters=())

    def step(batch: Batch, autocast: bool) -> float:
        amp.amp_ctx = half if autocast else plain
        norm, _ = trainer.train_step(1, 1, True, log, log, batch.content.values, batch.labels, -1, 1)
        return float(norm)

    watch.around(vae, "img_to_idxBl", after="encode")
    watch.around(amp, "backward_clip_step", before="forward")
    optimizer.register_step_pre_hook(lambda *_: watch.ends("backward"))
    return Trainer(var, optimizer, step, watch)


def make_batches(tokenizer: ImageTokenizer, count: int, classes: int) -> tuple[Batch, Batch]:
    """The same images as such, and as their tokens."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(count, 3, 32, 32, generator=generator)
    images = F.interpolate(small, size=tokenizer.config.image_size, mode="bicubic").clamp(-1, 1)
    labels = torch.randint(classes, (count,), generator=generator)
    batch_slice = BatchSlice(0, count, count)
    there = tokenizer.post_quant_conv.weight.device
    tokens: Tensor = torch.cat(tokenizer.encode(images.to(there)), dim=1).cpu()
    return Batch(Pixels(images), labels, (), batch_slice), Batch(Tokens(tokens), labels, (), batch_slice)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train beside the reference.")
    parser.add_argument("--reference", type=Path, required=True, help="its code")
    parser.add_argument("--size", default="d16", choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "memory"], help="left out: both")
    parser.add_argument("--autocast", action="store_true", help="the reference under bfloat16 autocast, too")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(*peak_above(options))
        return
    if options.only != "memory":
        compare_speed(options)
    if options.only != "speed":
        compare_memory(options)


def way_names(options: argparse.Namespace) -> list[str]:
    return [REFERENCE, *([AUTOCAST] if options.autocast else []), OURS, OURS_CACHED, DEFAULT, DEFAULT_CACHED]


def ways_of(options: argparse.Namespace, drop: bool, only: str = "") -> dict[str, tuple[Trainer, tuple[Any, ...]]]:
    """For each way its trainer, and what a step of it takes."""
    recipe = replace(TRANSFORMERS[options.size], batch_size=options.batch).on(CPU)
    tokenizer, model = fresh_models(options.size)
    images, tokens = make_batches(tokenizer, options.batch, model.config.num_classes)
    ways: dict[str, tuple[Trainer, tuple[Any, ...]]] = {}
    if not only.startswith("ours"):
        theirs = their_trainer(options.reference, tokenizer, model, recipe, drop)
        ways[REFERENCE] = theirs, (images, False)
        if options.autocast:
            ways[AUTOCAST] = theirs, (images, True)
    if not only.startswith("reference"):
        ours = our_trainer(tokenizer, model, recipe, drop)
        ways[OURS] = ours, (images, "float32")
        ways[OURS_CACHED] = ours, (tokens, "float32")
        ways[DEFAULT] = ours, (images, recipe.precision)
        ways[DEFAULT_CACHED] = ours, (tokens, recipe.precision)
    return ways


def first_norms(options: argparse.Namespace) -> str:
    """Of the first gradient, where nothing is dropped: do both compute the same?"""
    ways = ways_of(options, drop=False)
    norms = {name: trainer.step(*given) for name, (trainer, given) in ways.items() if name in (REFERENCE, OURS)}
    return ", ".join(f"{name} {norm:.6f}" for name, norm in norms.items())


def make_ways(options: argparse.Namespace, who: str) -> Ways:
    """Steps of one of the two, which return the seconds of the processor of each stage."""

    def step(trainer: Trainer, given: tuple[Any, ...]) -> dict[str, float]:
        trainer.step(*given)
        return {stage: seconds[-1] for stage, seconds in trainer.watch.seconds.items()}

    return {name: partial(step, *way) for name, way in ways_of(options, drop=True, only=who).items()}


def compare_speed(options: argparse.Namespace) -> None:
    print(f"{options.size}, batch {options.batch}, {torch.get_num_threads()} threads")
    print(f"norm of the first gradient, nothing dropped: {first_norms(options)}", flush=True)
    gc.collect()

    turns = take_turns(partial(make_ways, options), way_names(options), options.rounds, WITHOUT_SPLINTERS)
    print(f"{'medians of ' + str(options.rounds):<26}{'clock':>9}{'cpu':>9}{'to the first (clock, cpu)':>27}", end="")
    print("".join(f"{stage:>11}" for stage in STAGES) + " (cpu)")
    first = median(turns[REFERENCE], lambda t: t.clock), median(turns[REFERENCE], lambda t: t.cpu)
    for name, found in turns.items():
        clock, cpu = median(found, lambda t: t.clock), median(found, lambda t: t.cpu)
        parts = "".join(f"{median(found, lambda t, stage=stage: t.figures[stage]):>9.2f} s" for stage in STAGES)
        print(f"{name:<26}{clock:>7.2f} s{cpu:>7.2f} s{first[0] / clock:>18.2f}x{first[1] / cpu:>7.2f}x{parts}")


def peak_above(options: argparse.Namespace) -> tuple[int, int]:
    """MiB: what this process holds at most during a step, in all, and above what it held before and the gradients."""
    trainer, given = ways_of(options, drop=True, only=options.peak_of)[options.peak_of]
    with kept(CPU) if options.peak_of.startswith("ours") else nullcontext():
        trainer.step(*given)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # gives back what is free
        before = held()
        peak = own_peak(lambda: trainer.step(*given))
    gradients = sum(p.numel() * p.itemsize for p in trainer.network.parameters()) // 2**20
    return peak, peak - before - gradients


def compare_memory(options: argparse.Namespace) -> None:
    first = None
    for name in way_names(options):
        command = [sys.executable, __file__, "--reference", str(options.reference), "--size", options.size]
        command += ["--batch", str(options.batch), "--peak-of", name, *(["--autocast"] if options.autocast else [])]
        environment = os.environ | (WITHOUT_SPLINTERS if name.startswith("ours") else {})
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        peak, above = map(int, said.split()[-2:])
        first = first or above
        print(
            f"memory, batch {options.batch}, {name:<26} peak {peak} MiB; above parameters, gradients, optimizer state "
            f"and tokenizer {above} MiB, {above / first:.2f} of the first",
            flush=True,
        )


if __name__ == "__main__":
    main()
