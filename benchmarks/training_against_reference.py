"""Compare training steps with the reference: same weights, images and labels, alternating runs on the same machine.

    git clone https://github.com/FoundationVision/VAR reference
    OMP_NUM_THREADS=2 python benchmarks/training_against_reference.py --reference reference --rounds 5

The transformer has an official size, new weights, and the official schedule and tokenizer; images are random. In every
round, each variant takes one step with the official recipe: the reference's own trainer in float32, its default; ours
in float32 and in our default precision, with tokens computed on the fly or from a cache. The reference and ours run in
separate processes, because ``nextscale train`` also changes the memory allocator. The script prints medians of
wall-clock seconds and of processor seconds, which other programs on a shared machine disturb less, with the ratio to
the reference and by stage. Before that it prints the norm of the first gradient of both, without random drops. With
--only memory, it prints the peak memory of a step above parameters, gradients, optimizer state and tokenizer, each
variant in a separate process.
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
from reference import CPU, Variants, held, load_reference, median, own_peak, quiet, take_turns
from torch import Tensor, nn

from nextscale.data.content import Pixels, Tokens
from nextscale.data.loader import Batch, BatchSlice
from nextscale.runtime.allocator import LESS_FRAGMENTATION, kept
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
    """Processor seconds of each stage, one value per step."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    since: float = 0.0

    def start(self) -> None:
        self.since = time.process_time()

    def ends(self, stage: str) -> None:
        now = time.process_time()
        self.seconds[stage].append(now - self.since)
        self.since = now

    def around(self, owner: Any, name: str, before: str = "", after: str = "") -> None:
        """End a stage before or after each call of a method of ``owner``."""
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
    """One implementation: network, optimizer, and a function for one step, which returns the norm of the gradient."""

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
    """Return the reference's trainer with its optimizer and parameter groups, on the device of the models.

    A step takes a batch and whether to use autocast; on a GPU to float16 with loss scaling, its default.
    """
    vae, var = load_reference(path, tokenizer, model)
    on_gpu = model.device.type == "cuda"
    loggers: Any = ModuleType("utils.misc")  # the reference's module needs packages that training does not need
    loggers.MetricLogger = loggers.TensorboardLogger = object
    sys.modules["utils.misc"] = loggers
    from trainer import VARTrainer  # part of the reference, as are the next two imports
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
    """Return a batch of images, and a batch of their tokens."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(count, 3, 32, 32, generator=generator)
    images = F.interpolate(small, size=tokenizer.config.image_size, mode="bicubic").clamp(-1, 1)
    labels = torch.randint(classes, (count,), generator=generator)
    batch_slice = BatchSlice(0, count, count)
    there = tokenizer.post_quant_conv.weight.device
    tokens: Tensor = torch.cat(tokenizer.encode(images.to(there)), dim=1).cpu()
    return Batch(Pixels(images), labels, (), batch_slice), Batch(Tokens(tokens), labels, (), batch_slice)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare training with the reference.")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the reference's code")
    parser.add_argument("--size", default="d16", choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "memory"], help="default: both")
    parser.add_argument("--autocast", action="store_true", help="also run the reference under bfloat16 autocast")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(*peak_above(options))
        return
    if options.only != "memory":
        compare_speed(options)
    if options.only != "speed":
        compare_memory(options)


def variant_names(options: argparse.Namespace) -> list[str]:
    return [REFERENCE, *([AUTOCAST] if options.autocast else []), OURS, OURS_CACHED, DEFAULT, DEFAULT_CACHED]


def variants_of(options: argparse.Namespace, drop: bool, only: str = "") -> dict[str, tuple[Trainer, tuple[Any, ...]]]:
    """Return the trainer of each variant, and the arguments of its step."""
    recipe = replace(TRANSFORMERS[options.size], batch_size=options.batch).on(CPU)
    tokenizer, model = fresh_models(options.size)
    images, tokens = make_batches(tokenizer, options.batch, model.config.num_classes)
    variants: dict[str, tuple[Trainer, tuple[Any, ...]]] = {}
    if not only.startswith("ours"):
        theirs = their_trainer(options.reference, tokenizer, model, recipe, drop)
        variants[REFERENCE] = theirs, (images, False)
        if options.autocast:
            variants[AUTOCAST] = theirs, (images, True)
    if not only.startswith("reference"):
        ours = our_trainer(tokenizer, model, recipe, drop)
        variants[OURS] = ours, (images, "float32")
        variants[OURS_CACHED] = ours, (tokens, "float32")
        variants[DEFAULT] = ours, (images, recipe.precision)
        variants[DEFAULT_CACHED] = ours, (tokens, recipe.precision)
    return variants


def first_norms(options: argparse.Namespace) -> str:
    """Return the norms of the first gradient of both, without random drops."""
    variants = variants_of(options, drop=False)
    norms = {name: trainer.step(*given) for name, (trainer, given) in variants.items() if name in (REFERENCE, OURS)}
    return ", ".join(f"{name} {norm:.6f}" for name, norm in norms.items())


def make_variants(options: argparse.Namespace, who: str) -> Variants:
    """Return functions for a step of each variant, which return the processor seconds of each stage."""

    def step(trainer: Trainer, given: tuple[Any, ...]) -> dict[str, float]:
        trainer.step(*given)
        return {stage: seconds[-1] for stage, seconds in trainer.watch.seconds.items()}

    return {name: partial(step, *variant) for name, variant in variants_of(options, drop=True, only=who).items()}


def compare_speed(options: argparse.Namespace) -> None:
    print(f"{options.size}, batch {options.batch}, {torch.get_num_threads()} threads")
    print(f"norm of the first gradient, without random drops: {first_norms(options)}", flush=True)
    gc.collect()

    turns = take_turns(partial(make_variants, options), variant_names(options), options.rounds, LESS_FRAGMENTATION)
    print(f"{'medians of ' + str(options.rounds):<26}{'clock':>9}{'cpu':>9}{'speed-up (clock, cpu)':>27}", end="")
    print("".join(f"{stage:>11}" for stage in STAGES) + " (cpu)")
    first = median(turns[REFERENCE], lambda t: t.clock), median(turns[REFERENCE], lambda t: t.cpu)
    for name, found in turns.items():
        clock, cpu = median(found, lambda t: t.clock), median(found, lambda t: t.cpu)
        parts = "".join(f"{median(found, lambda t, stage=stage: t.figures[stage]):>9.2f} s" for stage in STAGES)
        print(f"{name:<26}{clock:>7.2f} s{cpu:>7.2f} s{first[0] / clock:>18.2f}x{first[1] / cpu:>7.2f}x{parts}")


def peak_above(options: argparse.Namespace) -> tuple[int, int]:
    """Return the peak memory of a step in MiB: in total, and above the memory before it and the gradients."""
    trainer, given = variants_of(options, drop=True, only=options.peak_of)[options.peak_of]
    with kept(CPU) if options.peak_of.startswith("ours") else nullcontext():
        trainer.step(*given)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # returns free memory to the system
        before = held()
        peak = own_peak(lambda: trainer.step(*given))
    gradients = sum(p.numel() * p.itemsize for p in trainer.network.parameters()) // 2**20
    return peak, peak - before - gradients


def compare_memory(options: argparse.Namespace) -> None:
    first = None
    for name in variant_names(options):
        command = [sys.executable, __file__, "--reference", str(options.reference), "--size", options.size]
        command += ["--batch", str(options.batch), "--peak-of", name, *(["--autocast"] if options.autocast else [])]
        environment = os.environ | (LESS_FRAGMENTATION if name.startswith("ours") else {})
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        peak, above = map(int, output.split()[-2:])
        first = first or above
        print(
            f"memory, batch {options.batch}, {name:<26} peak {peak} MiB; above parameters, gradients, optimizer state "
            f"and tokenizer {above} MiB, {above / first:.2f} of the reference",
            flush=True,
        )


if __name__ == "__main__":
    main()
