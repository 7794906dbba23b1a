"""Models small enough to build in a test, with weights that make every part matter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nextscale as ns

SCHEDULES = {
    "square": ns.ScaleSchedule.square((1, 2, 3, 4)),
    "rectangular": ns.ScaleSchedule(((1, 2), (2, 3), (3, 5))),
    "single": ns.ScaleSchedule(((2, 3),)),
}
CODES, DIM, CLASSES = 24, 8, 5

Models = tuple[ns.ImageTokenizer, ns.VAR]


@lru_cache
def make_tokenizer(schedule: ns.ScaleSchedule, **options) -> ns.ImageTokenizer:
    """Shared between tests: do not change it."""
    fields: dict[str, Any] = {
        "channels": 32,
        "multipliers": (1, 2),
        "num_blocks": 1,
        "code_dim": DIM,
        "codebook_size": CODES,
    }
    return randomise(ns.ImageTokenizer(ns.TokenizerConfig(schedule, **(fields | options))))


@lru_cache
def make_var(schedule: ns.ScaleSchedule, **options) -> ns.VAR:
    """Shared between tests: do not change it."""
    fields: dict[str, Any] = {
        "depth": 2,
        "width": 128,
        "heads": 2,
        "num_classes": CLASSES,
        "codebook_size": CODES,
        "code_dim": DIM,
    }
    return randomise(ns.VAR(ns.VARConfig(schedule, **(fields | options))))


@torch.no_grad()
def randomise(model):
    """The official initialisation leaves classes and blocks nearly without effect; these weights do not."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        for p in module.parameters(recurse=False):
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                p.add_(0.1 * noise)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                p.copy_(noise / p[0].numel() ** 0.5)
            else:
                p.copy_(0.5 * noise)
    return model.eval()


def random_images(tokenizer: ns.ImageTokenizer, batch: int = 2, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *tokenizer.config.image_size, generator=generator) * 2 - 1


def random_tokens(schedule: ns.ScaleSchedule, batch: int = 2, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(CODES, (batch, n), generator=generator) for n in schedule.tokens_per_scale]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def list_files(checkpoint: Path) -> None:
    """Make a folder a whole checkpoint: one that lists its files."""
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.is_file()}
    (checkpoint / "files.json").write_text(json.dumps(sizes))


@contextmanager
def refused(*words: object) -> Iterator[None]:
    """What happens inside is refused in one sentence that says these words."""
    with pytest.raises(ns.InputError) as caught:
        yield
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert str(word) in sentence, f"{word!r} is not said in: {sentence}"
