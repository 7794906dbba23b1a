"""Models of the official sizes with random weights: as fast as trained ones, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.families import infinity, var
from nextscale.families.family import Family
from nextscale.families.sources import INDEX, TOKENIZER, TRANSFORMER, write_index
from nextscale.io.config import as_record
from nextscale.io.files import write_json
from nextscale.io.module_folder import CONFIG, WEIGHTS
from nextscale.io.tensor_files import write_tensors
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.transformer.infinity_config import SIZES, InfinityConfig

PATCHED = 4
"""Bits per token of the patchified tokenizer, for each of its channels."""


def write_random_model(folder: Path, name: str, seed: int = 0) -> None:
    """Write a model folder for `Pipeline.from_pretrained`.

    The transformers of Infinity are stored in bfloat16, like large published models.

    Args:
        name: d16 ... d36 for VAR; layer12 ... layer48, 2b or 8b for Infinity, also with "infinity-" before it.
    """
    family, tokenizer, model = official_size(name)
    generator = torch.Generator().manual_seed(seed)
    half = torch.bfloat16 if family.takes == "prompt" else torch.float32
    with torch.device("meta"):
        modules: dict[str, tuple[nn.Module, Any, torch.dtype]] = {
            TOKENIZER: (family.tokenizer(tokenizer), tokenizer, torch.float32),
            TRANSFORMER: (family.transformer(model), model, half),
        }
    for part, (module, config, dtype) in modules.items():
        state = module.state_dict().items()
        write_tensors(folder / part / WEIGHTS, {key: random_like(key, t, generator).to(dtype) for key, t in state})
        write_json(folder / part / CONFIG, as_record(config))
    if family.takes == "prompt":
        write_index(folder, family, (), "", None)
    else:
        write_json(folder / INDEX, {"class_names": [str(i) for i in range(model.num_classes)]})


def official_size(name: str) -> tuple[Family, Any, Any]:
    """Return the family, the tokenizer's and the transformer's configuration of an official size.

    Raises:
        InputError: there is no such size.
    """
    if name in var.PUBLISHED:
        return var.FAMILY, var.PUBLISHED[name].tokenizer, var.PUBLISHED[name].model
    size = name.removeprefix(infinity.FAMILY.prefix)
    if size not in SIZES:
        raise InputError(f"no official size {name!r}: expected one of {', '.join((*var.PUBLISHED, *SIZES))}")
    model = InfinityConfig.named(size)
    patchify = "bits" in SIZES[size]
    channels = model.bits // PATCHED if patchify else model.bits
    return infinity.FAMILY, TokenizerConfig.infinity(channels, patchify, model.schedule), model


def random_like(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random weights that keep the variance of activations; norms are 1, biases 0."""
    if tensor.ndim == 1:
        return torch.ones(tensor.shape) if "norm" in name and name.endswith("weight") else torch.zeros(tensor.shape)
    if name.endswith("log_scale"):
        return torch.full(tensor.shape, 4.0).log()
    return torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
