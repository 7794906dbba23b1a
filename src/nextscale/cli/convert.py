"""``nextscale convert``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nextscale.cli.models import Dtype, ModelOptions
from nextscale.errors import InputError
from nextscale.families.source_files import files_of
from nextscale.families.sources import INDEX, families
from nextscale.io.files import atomic_file, brief_path, check_folder
from nextscale.runtime.device import DTYPES


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Convert a model to a nextscale folder, or to the two files that the official code loads.

    Example: nextscale convert --model vae_ch160v4096z32.pth,var_d16.pth --out d16
    """

    out: Path
    """Folder to write. It may exist, but must not hold a model."""
    dtype: Dtype = "float32"
    """Precision of the stored weights."""
    to: Literal["nextscale", "official"] = "nextscale"
    """Format to write. nextscale: safetensors and JSON. official: vae_ch160v4096z32.pth and var.pth, or
    infinity_vae.pth and infinity.pth."""


def check_out(options: Options) -> None:
    """Raise InputError if the folder cannot be written, or holds a model or official files, such as the source."""
    check_folder(options.out)
    names = [INDEX]
    if options.to == "official":
        names = [file for family in families() for file in family.official_files]
    held = [name for name in names if (options.out / name).exists()]
    if not held:
        return
    source, out = Path(options.model), options.out.resolve()
    if any(path.exists() and out in (path.resolve(), path.resolve().parent) for path in (source, *files_of(source))):
        raise InputError(f"{brief_path(options.out)} holds the model to convert: choose another --out")
    raise InputError(f"{brief_path(options.out)} holds a model ({held[0]}): choose another --out, or delete it first")


def run(options: Options) -> None:
    check_out(options)
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
