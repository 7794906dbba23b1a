"""Compare speed and memory of sampling with the reference: same weights, same seed, alternating runs on the same
machine.

    git clone https://github.com/FoundationVision/VAR reference
    OMP_NUM_THREADS=1 python benchmarks/sampling_speed.py --reference reference --rounds 3

The model has an official size and random weights. In every round, the reference and ours sample one image in float32
and in bfloat16 (the reference under autocast), ours also in int8 where the machine supports it, and both decode one
image. The reference and ours run in separate processes, because ``nextscale sample`` also changes the memory allocator.
The script prints medians of wall-clock seconds and of processor seconds, which other programs on a shared machine
disturb less, with the ratio, and the ratio of both defaults (the reference's is float32). It then compares results: the
tokens of both in float32, and the errors of logits and images in lower precision. Finally it measures the peak memory
while sampling a batch of 8, each in a separate process. ``--only`` runs one of the three parts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from reference import CPU, Variants, load_reference, median, own_peak, take_turns

import nextscale as ns
from nextscale.analysis.flops import count_flops
from nextscale.benchmark.machine import measure_peak
from nextscale.benchmark.random_weights import write_random_model
from nextscale.imaging.psnr_ssim import psnr
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import kept
from nextscale.runtime.device import has_fast_int8

SETTINGS: dict[str, Any] = {"cfg": 1.5, "top_k": 900, "top_p": 0.96}
LABEL = 207


def sample_reference(var: Any, autocast: bool, batch: int = 1, seed: int = 0) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return var.autoregressive_infer_cfg(batch, torch.full((batch,), LABEL), g_seed=seed, **SETTINGS)


def sample_ours(pipeline: Pipeline, batch: int = 1, seed: int = 0) -> torch.Tensor:
    *_, step = pipeline.scales([LABEL] * batch, seed=seed, **SETTINGS)
    return step.image()


def our_logits(pipeline: Pipeline, tokens: list[torch.Tensor]) -> torch.Tensor:
    """Return the logits of all scales, without guidance, given these tokens."""
    edit = ns.TokenEdit(tokens, torch.ones(pipeline.tokenizer.schedule.final_size))
    steps = ns.sample_scales(*pipeline.ready(), [LABEL], seed=0, edit=edit, **{**SETTINGS, "cfg": 0.0})
    return torch.cat([step.logits for step in steps], dim=1)


def reference_logits(var: Any, inputs: torch.Tensor, autocast: bool) -> torch.Tensor:
    var.cond_drop_rate = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return var(torch.tensor([LABEL]), inputs).float()


def rms(difference: torch.Tensor) -> float:
    return difference.square().mean().sqrt().item()


def compare_results(ours: dict[str, Pipeline], var: Any) -> None:
    """Print the differences between the implementations and precisions."""
    image = sample_reference(var, autocast=False)
    steps = list(ours["float32"].scales([LABEL], seed=0, **SETTINGS))
    difference = (steps[-1].image() - image).abs().max().item()
    print(f"float32: images of one seed differ by at most {difference:.1e}, on a scale of 0 to 1")
    tokens = [step.tokens for step in steps]
    exact = our_logits(ours["float32"], tokens)
    inputs = ours["float32"].tokenizer.pyramid.next_inputs(tokens)
    print(f"logits without guidance, standard deviation {exact.std():.3f}, compared with ours in float32:")
    for name, logits in (
        ("reference float32", reference_logits(var, inputs, autocast=False)),
        ("reference bfloat16", reference_logits(var, inputs, autocast=True)),
        *((f"ours {dtype}", our_logits(ours[dtype], tokens)) for dtype in ours if dtype != "float32"),
    ):
        same = (logits.argmax(-1) == exact.argmax(-1)).float().mean()
        print(f"{name:<22} RMS error {rms(logits - exact):.1e}, {same:.1%} of the most probable tokens equal")
    decoded = ours["float32"].ready()[0].decode(tokens)
    for dtype, pipeline in ours.items():
        if dtype != "float32":
            sampled = [step.tokens for step in pipeline.scales([LABEL], seed=0, **SETTINGS)]
            agree = [f"{(a == b).float().mean():.0%}" for a, b in zip(sampled, tokens, strict=True)]
            print(f"{dtype}: tokens equal to those of float32 with one seed, scale by scale: {', '.join(agree)}")
            distance = psnr(decoded, pipeline.ready()[0].decode(tokens)).item()
            print(f"{dtype}: decoded from the same tokens, {distance:.1f} dB from float32")


def measure_memory(options: argparse.Namespace, folder: str) -> None:
    for precision in ("float32", "bfloat16"):
        peaks = {}
        for who in ("reference", "ours"):
            command = [sys.executable, __file__, "--reference", str(options.reference), "--size", options.size]
            command += ["--folder", folder, "--peak-of", who, "--precision", precision]
            peaks[who] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        share = peaks["ours"] / peaks["reference"]
        both = f"reference {peaks['reference']} MiB, ours {peaks['ours']} MiB"
        print(f"memory, {precision}, batch 8: {both}, ratio {share:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare sampling with the reference.")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the reference's code")
    parser.add_argument("--size", default="d16", choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "results", "memory"], help="default: all three")
    parser.add_argument("--folder", default="", help="folder for the model with random weights")
    parser.add_argument("--peak-of", choices=["reference", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        if not (Path(folder) / "pipeline.json").is_file():
            write_random_model(Path(folder), options.size)
        if options.peak_of:
            pipeline = Pipeline.from_pretrained(folder, "cpu", options.precision)
            if options.peak_of == "ours":
                pipeline.ready()
                with kept(CPU):
                    print(own_peak(lambda: sample_ours(pipeline, 8)))
            else:
                _, var = load_reference(options.reference, pipeline.tokenizer, pipeline.model)
                del pipeline
                print(own_peak(lambda: sample_reference(var, options.precision == "bfloat16", 8)))
            return
        if options.only != "memory":
            compare(options, folder)
        if options.only in (None, "memory"):
            measure_memory(options, folder)


def compare(options: argparse.Namespace, folder: str) -> None:
    if options.only in (None, "speed"):
        compare_speed(options, folder)
    if options.only in (None, "results"):
        ours = {dtype: Pipeline.from_pretrained(folder, CPU, dtype) for dtype in precisions()}
        _, var = load_reference(options.reference, ours["float32"].tokenizer, ours["float32"].model)
        compare_results(ours, var)


def precisions() -> list[str]:
    return ["float32", "bfloat16", *(["int8"] if has_fast_int8(CPU) else [])]


def make_variants(options: argparse.Namespace, folder: str, who: str) -> Variants:
    """Return the variants of the reference or of ours: sample an image in each precision, and decode one."""
    pipelines = {dtype: Pipeline.from_pretrained(folder, CPU, dtype) for dtype in precisions()}
    tokenizer, model = pipelines["float32"].tokenizer, pipelines["float32"].model
    canvas = torch.randn(1, tokenizer.config.code_dim, *tokenizer.schedule.final_size)
    if who == "reference":
        vae, var = load_reference(options.reference, tokenizer, model)
        return {
            "reference float32": lambda: sample_reference(var, autocast=False),
            "reference bfloat16": lambda: sample_reference(var, autocast=True),
            "reference decoder float32": torch.no_grad()(lambda: vae.fhat_to_img(canvas)),
        }
    variants: Variants = {}
    for dtype, pipeline in pipelines.items():
        variants[f"ours {dtype}"] = partial(sample_ours, pipeline)
        variants[f"ours decoder {dtype}"] = partial(torch.no_grad()(pipeline.ready()[0].decode_canvas), canvas)
    return variants


def compare_speed(options: argparse.Namespace, folder: str) -> None:
    print(f"{options.size}, batch 1, {torch.get_num_threads()} threads, medians of {options.rounds} rounds")
    images = ["reference float32", "ours float32", "reference bfloat16", *(f"ours {d}" for d in precisions()[1:])]
    decoders = ["reference decoder float32", "ours decoder float32", "ours decoder bfloat16"]
    for names in (images, decoders):
        turns = take_turns(partial(make_variants, options, folder), names, options.rounds)
        found = {name: (median(t, lambda t: t.clock), median(t, lambda t: t.cpu)) for name, t in turns.items()}
        print(f"{'seconds':<26}{'clock':>9}{'cpu':>9}{'speed-up, same precision (clock, cpu)':>48}")
        for name, (clock, cpu) in found.items():
            theirs = found.get(name.replace("ours", "reference"), found[names[0]])
            print(f"{name:<26}{clock:>7.2f} s{cpu:>7.2f} s{theirs[0] / clock:>39.2f}x{theirs[1] / cpu:>7.2f}x")
        if names is images:
            default = Pipeline.from_pretrained(folder, CPU).dtype
            ratio = found["reference float32"][0] / found[f"ours {default}"][0]
            print(f"defaults, the reference in float32 and ours in {default}: {ratio:.2f}x on the clock")
    pipeline = Pipeline.from_pretrained(folder, CPU)
    config, tokenizer = pipeline.model.config, pipeline.tokenizer.config
    work = count_flops(tokenizer, config)
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        shape = 2 * config.schedule.num_tokens, config.width, tokenizer.channels, tokenizer.image_size
        peak = measure_peak(*shape, kind, CPU, clock=time.process_time)
        least = 2 * (work.condition + work.transformer) / peak.product + work.decoder / peak.convolution
        print(
            f"{name}: the FLOPs of an image take at least {least:.2f} processor seconds, at "
            f"{peak.product:.0f} GFLOP/s for a product and {peak.convolution:.0f} for a convolution"
        )


if __name__ == "__main__":
    main()
