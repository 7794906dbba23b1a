"""Compare ways to decode an image: at once, in exact strips (``--tiles``), and in overlapping tiles that are blended.

    python benchmarks/tiled_decoding.py --side 1024 --channels 64
    python benchmarks/tiled_decoding.py --starter

The first command uses a decoder of Infinity with random weights (without ``--channels``, the official one). The second
one uses the starter's weights, with
strips and tiles that are small enough for its images of 64 pixels. Each way runs in a process of its own, which reports
its peak memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import nextscale as ns
from nextscale.acceleration import strips
from nextscale.acceleration.ready import ready_tokenizer
from nextscale.benchmark.machine import peak_memory
from nextscale.runtime.allocator import kept
from nextscale.tokenizer.tokenizer import ImageTokenizer

WAYS = ("at once", "strips", "blended tiles")
CPU = torch.device("cpu")
OVERLAP = 0.25
"""Of a tile's side, as in diffusers."""


def blended_tiles(tokenizer: ImageTokenizer, canvas: Tensor, tile: int) -> Tensor:
    """Decode tiles of ``tile`` x ``tile`` positions, and blend them where they overlap."""
    stride, scale = int(tile * (1 - OVERLAP)), tokenizer.config.stride
    height, width = canvas.shape[-2:]
    total, weights = torch.zeros(len(canvas), 3, height * scale, width * scale), torch.zeros(1, 1, height * scale, 1)
    weights = weights.expand(-1, -1, -1, width * scale).clone()
    for top in range(0, max(1, height - tile + stride), stride):
        for left in range(0, max(1, width - tile + stride), stride):
            part = canvas[:, :, top : top + tile, left : left + tile]
            image = tokenizer.decode_canvas(part.contiguous())
            rows, columns = (ramp(n, int(tile * scale * OVERLAP)) for n in image.shape[-2:])
            weight = rows[:, None] * columns
            y, x = top * scale, left * scale
            total[:, :, y : y + len(rows), x : x + len(columns)] += image * weight
            weights[:, :, y : y + len(rows), x : x + len(columns)] += weight
    return total / weights


def ramp(length: int, overlap: int) -> Tensor:
    """Weights that rise over the overlap at the beginning, and fall at the end."""
    distance = torch.arange(length) + 0.5
    return torch.minimum(distance, distance.flip(0)).div(overlap).clamp(max=1)


def random_case(side: int, channels: int) -> tuple[ImageTokenizer, Tensor]:
    config = ns.TokenizerConfig.infinity(32, channels=channels)
    torch.manual_seed(0)
    tokenizer = ns.ImageTokenizer(config).eval()
    return tokenizer, torch.randn(1, 32, side // config.stride, side // config.stride).sign() / 32**0.5


def starter_case() -> tuple[ImageTokenizer, Tensor]:
    strips.WHOLE, strips.STRIP = 2**14, 2**16
    pipeline = ns.Pipeline.from_pretrained("starter", dtype="float32")
    *_, step = pipeline.scales(range(10), seed=list(range(10)))
    return pipeline.tokenizer, step.canvas


@torch.no_grad()
def measure(way: str, side: int, channels: int, starter: bool, file: Path) -> None:
    tokenizer, canvas = starter_case() if starter else random_case(side, channels)
    ready = ready_tokenizer(tokenizer, torch.float32, tiles=way == "strips")
    small = canvas.shape[-1] // 2
    ready.decode_canvas(canvas[:, :, :small, :small])  # stores the transformed kernels
    before = peak_memory(CPU)
    start = time.perf_counter()
    with kept(CPU, tokenizer.config.channels * canvas.shape[-2:].numel() * tokenizer.config.stride**2 * 4):
        image = blended_tiles(ready, canvas, small) if way == "blended tiles" else ready.decode_canvas(canvas)
    torch.save(image, file)
    print(
        f"{time.perf_counter() - start:.1f} s, peak {peak_memory(CPU) / 2**20:,.0f} MiB ({before / 2**20:,.0f} before)"
    )


def levels(images: Tensor) -> Tensor:
    return images.add(1).mul(127.5).round()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--starter", action="store_true")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.side, options.channels, options.starter, options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Tensor] = {}
        for way in WAYS:
            file = Path(folder, way)
            command = [sys.executable, __file__, "--way", way, "--file", str(file), "--side", str(options.side)]
            command += ["--channels", str(options.channels)]
            said = subprocess.run(
                [*command, *(["--starter"] * options.starter)], check=True, text=True, capture_output=True
            )
            found[way] = torch.load(file)
            off = (found[way] - found[WAYS[0]]).abs()
            steps = (levels(found[way]) - levels(found[WAYS[0]])).abs()
            rms = F.mse_loss(found[way], found[WAYS[0]]).sqrt()
            print(
                f"{way}: {said.stdout.strip()}; largest difference {off.max():.2g}, rms {rms:.2g} in [-1, 1]; ", end=""
            )
            print(f"{(steps > 0).float().mean():.4%} of the values differ, by at most {steps.max():.0f} of 255 levels")


if __name__ == "__main__":
    main()
