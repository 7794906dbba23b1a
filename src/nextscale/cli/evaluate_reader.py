"""``nextscale evaluate reader``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nextscale.evaluation.scene_table import score_table
from nextscale.training.reader_setup import train_reader
from nextscale.training.recipes import Precision


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a small network that reads scenes: objects, count, relation, style and background.

    "evaluate --prompts" uses it to tell whether images show what their prompts say. Prints the scores of the reader on
    real renders, the ceiling of any model's scores. Repeat the same command to resume an interrupted run.

    Example: nextscale evaluate reader --data scenes:emoji-sprites-96.tar.xz --out reader
    """

    data: str
    """scenes:PATH, where PATH is a folder or .tar archive of emoji sprites."""
    out: Path
    """Folder to write the reader to."""
    size: int = 64
    """Side in pixels of the images to read."""
    steps: int = 1500
    """Number of training steps."""
    batch_size: int = 64
    """Number of images in a step."""
    seed: int = 0
    """Seed of initial weights, scenes and all other random numbers."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    dtype: Precision = "auto"
    """Precision of training. auto: bfloat16 if the device computes it fast, else float32."""


def run(options: Options) -> None:
    ceiling = train_reader(
        options.data,
        options.out,
        options.size,
        options.steps,
        options.batch_size,
        options.seed,
        options.dtype,
        options.device,
    )
    if ceiling:
        print(score_table(ceiling))
        print(options.out)
