"""Compare the speed of sampling with Infinity with the reference: same weights, same seed, alternating runs.

    git clone https://github.com/FoundationVision/Infinity reference
    python benchmarks/infinity_against_reference.py --reference reference --rounds 3

The reference needs the package einops. The model has an official size and random weights, and the prompt random
features. In every round, the reference and nextscale each sample and decode one image in float32, in separate
processes. The script prints medians of wall-clock seconds and of processor seconds, which other programs on a shared
machine disturb less, with their ratios. It then compares the images of one seed. ``infinity_reference.py`` says what is
replaced in the reference so that it runs on a CPU.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from infinity_reference import load_infinity_reference, sample_infinity_reference
from reference import Variants, median, take_turns

import nextscale as ns
from nextscale.benchmark.random_weights import write_random_model
from nextscale.benchmark.sampling import random_requests
from nextscale.imaging.images import to_pil
from nextscale.pipeline import Pipeline

SETTINGS: dict[str, Any] = {"cfg": 3.0, "temperature": 0.5, "top_k": 900, "top_p": 0.97}
NAMES = ["reference float32", "ours float32"]


def make_variants(options: argparse.Namespace, folder: str, who: str) -> Variants:
    """Return the function that samples and decodes an image, of the reference or of ours."""
    schedule = ns.ScaleSchedule.infinity(options.budget)
    pipeline = Pipeline.from_pretrained(folder, "cpu", "float32")
    text = random_requests(pipeline, 1)
    if who == "reference":
        vae, transformer = load_infinity_reference(options.reference, pipeline.tokenizer, pipeline.model.float())
        sample = partial(sample_infinity_reference, vae, transformer, text, schedule, options.seed, SETTINGS)
        return {NAMES[0]: sample}
    pipeline.ready()
    return {
        NAMES[1]: lambda: to_pil(
            pipeline.scales(text, seed=options.seed, schedule=schedule, **SETTINGS).result().images
        )
    }


def compare_bits(options: argparse.Namespace, folder: str) -> None:
    """Sample with both in this process, and compare all bits and pixels."""
    schedule = ns.ScaleSchedule.infinity(options.budget)
    pipeline = Pipeline.from_pretrained(folder, "cpu", "float32")
    text = random_requests(pipeline, 1)
    result = pipeline.scales(text, seed=options.seed, schedule=schedule, **SETTINGS).result()
    vae, transformer = load_infinity_reference(options.reference, pipeline.tokenizer, pipeline.model.float())
    theirs: list[torch.Tensor] = []
    lfq = vae.quantizer.lfq
    to_codes = lfq.indices_to_codes

    def spy(bits: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        theirs.append(bits.reshape(1, -1, bits.shape[-1]).bool())
        return to_codes(bits, *arguments, **named)

    lfq.indices_to_codes = spy
    image = sample_infinity_reference(vae, transformer, text, schedule, options.seed, SETTINGS)[0]
    differing = sum(int((a != b).sum()) for a, b in zip(result.tokens, theirs, strict=True))
    total = sum(bits.numel() for bits in theirs)
    pixels = result.images[0].mul(255).to(torch.uint8).permute(1, 2, 0).int() - image.int()
    print(f"bits of one seed that differ: {differing} of {total:,}")
    print(f"pixels: at most {int(pixels.abs().max())} of 255 levels, {(pixels != 0).double().mean():.2%} of values")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare sampling with the reference implementation of Infinity.")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the reference's code")
    parser.add_argument("--size", default="layer12", help="official size with one token per position")
    parser.add_argument("--budget", default="0.06M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["speed", "results"], help="default: both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), f"infinity-{options.size}")
        if options.only != "speed":
            compare_bits(options, folder)
        if options.only != "results":
            turns = take_turns(partial(make_variants, options, folder), NAMES, options.rounds)
            clock, cpu = ([median(turns[name], of) for name in NAMES] for of in (lambda t: t.clock, lambda t: t.cpu))
            print(f"{options.size}, {options.budget}, {torch.get_num_threads()} threads, {options.rounds} rounds")
            for name, seconds, processor in zip(NAMES, clock, cpu, strict=True):
                print(f"{name:<20}{seconds:>8.2f} s{processor:>8.2f} processor s")
            print(f"ours is {clock[0] / clock[1]:.2f} times as fast, {cpu[0] / cpu[1]:.2f} in processor time")


if __name__ == "__main__":
    main()
