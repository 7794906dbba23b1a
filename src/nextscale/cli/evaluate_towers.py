"""``nextscale evaluate towers``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nextscale.cli.options import height_and_width
from nextscale.data.held_out import ValidationSettings
from nextscale.training.recipes import Precision
from nextscale.training.towers_setup import train_towers


@dataclass(frozen=True, kw_only=True)
class Options(ValidationSettings):
    """Train two small networks that match images and captions, on real pairs.

    "evaluate --prompts" uses them to tell how often a sampled image is closer to its own prompt than to 99 others.
    Prints the same figure for real validation images. Repeat the same command to resume an interrupted run.

    Example: nextscale evaluate towers --data photos/ --out towers
    """

    data: str
    """Images with captions, in any form that "train transformer" accepts."""
    out: Path
    """Folder to write the networks to."""
    size: tuple[int, ...] = (64,)
    """Size in pixels of the images: one number for squares, or height and width."""
    steps: int = 2000
    """Number of training steps."""
    batch_size: int = 128
    """Number of images in a step. Each is compared with the captions of all others."""
    seed: int = 0
    """Seed of initial weights, data order and all other random numbers."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    dtype: Precision = "auto"
    """Precision of training. auto: bfloat16 if the device computes it fast, else float32."""


def run(options: Options) -> None:
    real = train_towers(
        options.data,
        options.out,
        height_and_width(options.size),
        options.steps,
        options.batch_size,
        options.seed,
        options.dtype,
        options.device,
        options.val_fraction,
    )
    if real:
        print(real)
        print(options.out)
