"""Models of the official sizes with random weights: as fast as trained ones, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.families.sources import INDEX, TOKENIZER, TRANSFORMER
from nextscale.families.var import PUBLISHED
from nextscale.io.config import as_record
from nextscale.io.files import write_json
from nextscale.io.module_folder import CONFIG, WEIGHTS
from nextscale.io.tensor_files import write_tensors
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR


def write_random_model(folder: Path, name: str, seed: int = 0) -> None:
    """Write a model folder for `Pipeline.from_pretrained`.

    Args:
        name: d16 ... d36.
    """
    if name not in PUBLISHED:
        raise InputError(f"no official size {name!r}: expected one of {', '.join(PUBLISHED)}")
    published, generator = PUBLISHED[name], torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        modules: dict[str, tuple[nn.Module, Any]] = {
            TOKENIZER: (ImageTokenizer(published.tokenizer), published.tokenizer),
            TRANSFORMER: (VAR(published.model), published.model),
        }
    for part, (module, config) in modules.items():
        tensors = {key: random_like(key, tensor, generator) for key, tensor in module.state_dict().items()}
        write_tensors(folder / part / WEIGHTS, tensors)
        write_json(folder / part / CONFIG, as_record(config))
    write_json(folder / INDEX, {"class_names": [str(i) for i in range(published.model.num_classes)]})


def random_like(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random weights that keep the variance of activations; norms are 1, biases 0."""
    if tensor.ndim == 1:
        return torch.ones(tensor.shape) if "norm" in name and name.endswith("weight") else torch.zeros(tensor.shape)
    if name.endswith("log_scale"):
        return torch.full(tensor.shape, 4.0).log()
    return torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
