"""Compare a tokenizer of bits with one of codes at equal tokens, steps, batches, losses and widths.

    python benchmarks/bits_against_codes.py --data photos --out runs/bits-and-codes
    python benchmarks/bits_against_codes.py --data photos --out runs/bits-and-codes-2 --bits 16 --codes 4096

Trains both, or resumes them, and writes OUT/comparison.png: rows of images, and of their reconstructions by codes and
by bits. Prints the last validation of both: PSNR after each scale, SSIM, usage of codes and bits, and with --perceptual
the distance in the features of EfficientNet-Lite0. The networks are equal but for the convolutions that codes have
around the quantizer.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import nextscale as ns
from nextscale.data.splits import open_splits
from nextscale.imaging.images import grid, save_image, to_pil
from nextscale.training.presets import TOKENIZERS
from nextscale.training.recipes import TokenizerRecipe
from nextscale.training.tokenizer_setup import first_images

KINDS = ("codes", "bits")


def recipes(preset: str, bits: int, codes: int, steps: int | None, perceptual: float) -> dict[str, TokenizerRecipe]:
    """Return the recipe of each kind. Both have the scales, widths, losses and critic of the preset."""
    base = TOKENIZERS[preset]
    base = replace(base, steps=steps or base.steps, perceptual=perceptual)
    of_bits = replace(base, model=replace(base.model, quantizer="bits", code_dim=bits))
    model = replace(base.model, quantizer="codebook", patchify=False, codebook_size=codes)
    of_codes = replace(base, model=model, entropy=0.0, drop_scales=0.0, dense_scales=False)
    return {"codes": of_codes, "bits": of_bits}


def last_validation(run: Path) -> dict[str, Any]:
    """Return the metrics of the last validation of a run."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = [line for line in lines if "val_psnr" in line]
    return {name.removeprefix("val_"): value for name, value in found[-1].items() if name.startswith("val_")}


def text(value: Any) -> str:
    """Format a number or a list of numbers."""
    values = value if isinstance(value, list) else [value]
    return " ".join(f"{number:.4g}" for number in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="images, as for nextscale train tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="folder of both runs and of comparison.png")
    parser.add_argument("--preset", default="scenes", help="preset of a tokenizer of bits")
    parser.add_argument("--steps", type=int, help="training steps of each; default: those of the preset")
    parser.add_argument("--bits", type=int, default=32, help="bits of a token")
    parser.add_argument("--codes", type=int, default=1024, help="size of the codebook")
    parser.add_argument("--code-dim", type=int, default=16, help="entries of a code")
    parser.add_argument("--perceptual", type=float, default=0.0, help="weight of the loss on EfficientNet-Lite0")
    options = parser.parse_args()

    both = recipes(options.preset, options.bits, options.codes, options.steps, options.perceptual)
    both["codes"] = replace(both["codes"], model=replace(both["codes"].model, code_dim=options.code_dim))
    trained = {kind: ns.train_tokenizer(options.data, options.out / kind, both[kind]) for kind in KINDS}

    schedule = both["bits"].model.schedule
    print(f"{schedule.num_tokens} tokens, scales {schedule}, {both['bits'].steps} steps of {both['bits'].batch_size}")
    figures = {kind: last_validation(options.out / kind) for kind in KINDS}
    for name in dict.fromkeys(name for kind in KINDS for name in figures[kind]):
        for kind in KINDS:
            if name in figures[kind]:
                print(f"{name:<16} {kind:<6} {text(figures[kind][name])}")
    for kind, tokenizer in trained.items():
        print(f"{'parameters':<16} {kind:<6} {sum(p.numel() for p in tokenizer.parameters()):,}")

    train, val = open_splits(options.data, both["bits"].model.image_size, both["bits"].seed, val_fraction=0.05)
    images = first_images(val or train)
    rows = [images] + [trained[kind].decode(trained[kind].encode(images)) for kind in KINDS]
    save_image(grid(to_pil((torch.cat(rows) + 1) / 2), columns=len(images)), options.out / "comparison.png")
    print(options.out / "comparison.png")


if __name__ == "__main__":
    main()
