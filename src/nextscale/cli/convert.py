"""``nextscale convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nextscale.cli.models import Dtype, ModelOptions
from nextscale.io.files import atomic_file, check_folder
from nextscale.runtime.device import DTYPES


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Convert a model to a nextscale folder, or to the two files that the official code loads.

    Example: nextscale convert --model vae_ch160v4096z32.pth,var_d16.pth --out d16
    """

    out: Path
    """Folder to write."""
    dtype: Dtype = "float32"
    """Precision of the stored weights."""
    to: Literal["nextscale", "official"] = "nextscale"
    """Format to write. nextscale: safetensors and JSON. official: vae_ch160v4096z32.pth and var.pth, or
    infinity_vae.pth and infinity.pth."""


def run(options: Options) -> None:
    check_folder(options.out)
    pipeline, dtype = options.load(), DTYPES[options.dtype]
    if options.to == "nextscale":
        pipeline.save_pretrained(options.out, dtype)
        print(options.out)
        return
    family = pipeline.family
    states = family.to_official(pipeline.tokenizer, pipeline.model)
    for name, state in zip(family.official_files, states, strict=True):
        with atomic_file(options.out / name) as temporary:
            torch.save({key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()}, temporary)
        print(options.out / name)
