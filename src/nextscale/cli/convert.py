"""``nextscale convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nextscale.cli.models import ModelOptions
from nextscale.families.var import FAMILY
from nextscale.io.files import atomic_file, check_folder
from nextscale.official.var import to_official
from nextscale.runtime.device import DTYPES

OFFICIAL_TRANSFORMER = "var.pth"


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Write a model as a folder of ours, or as the two files that the official code loads.

    Example: nextscale convert --model vae_ch160v4096z32.pth,var_d16.pth --out d16
    """

    out: Path
    """Folder to write."""
    to: Literal["nextscale", "official"] = "nextscale"
    """nextscale: safetensors and JSON. official: vae_ch160v4096z32.pth and var.pth."""


def run(options: Options) -> None:
    check_folder(options.out)
    pipeline, dtype = options.load(), DTYPES[options.dtype]
    if options.to == "nextscale":
        pipeline.save_pretrained(options.out, dtype)
        print(options.out)
        return
    states = to_official(pipeline.tokenizer, pipeline.model)
    for name, state in zip((FAMILY.tokenizer_file, OFFICIAL_TRANSFORMER), states, strict=True):
        with atomic_file(options.out / name) as temporary:
            torch.save({key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()}, temporary)
        print(options.out / name)
