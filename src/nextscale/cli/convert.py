"""``nextscale convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nextscale.cli.models import ModelOptions
from nextscale.files import atomic_file, check_folder
from nextscale.official import to_official
from nextscale.presets import HUB_TOKENIZER

OFFICIAL_TRANSFORMER = "var.pth"
STORED = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Write a model as a folder of ours, or as the two files that the official code loads.

    Example: nextscale convert --model vae_ch160v4096z32.pth,var_d16.pth --out d16
    """

    out: Path
    """Folder to write."""
    to: Literal["nextscale", "official"] = "nextscale"
    """nextscale: safetensors and JSON. official: vae_ch160v4096z32.pth and var.pth."""
    store: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights in a folder of ours."""


def run(options: Options) -> None:
    check_folder(options.out)
    pipeline = options.load()
    if options.to == "nextscale":
        pipeline.save_pretrained(options.out, dtype=STORED[options.store])
        print(options.out)
        return
    for name, state in zip(
        (HUB_TOKENIZER, OFFICIAL_TRANSFORMER), to_official(pipeline.tokenizer, pipeline.model), strict=True
    ):
        with atomic_file(options.out / name) as temporary:
            torch.save(state, temporary)
        print(options.out / name)
