"""The golden cases of InfinityStar: results of the reference, and a formula for its weights."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

import nextscale as ns
from nextscale.official.infinity_star import infinity_star_from_official, video_tokenizer_from_official
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.transformer.infinity_star import InfinityStar

FOLDER = Path(__file__).parent / "data" / "infinity_star"


def fill_tokenizer(salt: str, name: str, shape: list[int]) -> torch.Tensor:
    """A weight of the reference's video tokenizer."""
    x = np.random.RandomState(zlib.crc32(f"{salt}/vae/{name}".encode())).standard_normal(shape)
    fan = math.prod(shape[1:])
    if name == "scale_learnable_parameters" or name.endswith(("gamma", "conv_y.conv.bias")):
        x = 1 + 0.1 * x
    elif name.endswith("conv_y.conv.weight"):
        x = 0.3 * x / math.sqrt(fan)
    else:
        x = x / math.sqrt(fan) if len(shape) > 1 else 0.1 * x
    return torch.from_numpy(x).float()


def fill_transformer(salt: str, name: str, shape: list[int]) -> torch.Tensor:
    """A weight of the reference's transformer."""
    x = np.random.RandomState(zlib.crc32(f"{salt}/star/{name}".encode())).standard_normal(shape)
    if name not in ("cfg_uncond", "sos_token"):
        if name.endswith("norm.weight") or name == "norm_hidden_sates.weight":
            x = 1 + 0.1 * x
        else:
            x = x / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * x
        if name == "word_embed.weight":
            x = 3 * x
    return torch.from_numpy(x).float()


def normal(key: str, *shape: int) -> torch.Tensor:
    """An input of the reference."""
    return torch.from_numpy(np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)).float()


@lru_cache
def tables() -> dict:
    return json.loads((FOLDER / "tables.json").read_text())


@lru_cache
def read(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@dataclass(frozen=True)
class Golden:
    """One case."""

    name: str

    @cached_property
    def info(self) -> dict:
        return json.loads((FOLDER / f"{self.name}.json").read_text())

    @property
    def salt(self) -> str:
        return self.info["salt"]

    @cached_property
    def tokenizer_state(self) -> dict[str, torch.Tensor]:
        """The official state of the video tokenizer."""
        masks = {n: torch.zeros(shape, dtype=torch.int64) for n, (_, *shape) in self.info["vae"].items()}
        return {
            name: masks[name] if name.endswith("mask") else fill_tokenizer(self.salt, name, shape)
            for name, (_, *shape) in self.info["vae"].items()
        }

    @cached_property
    def tokenizer(self) -> VideoTokenizer:
        """Shared between tests: do not change it."""
        return video_tokenizer_from_official(self.tokenizer_state)

    @cached_property
    def transformer_state(self) -> dict[str, torch.Tensor]:
        """The official state of the transformer."""
        return {n: fill_transformer(self.salt, n, shape) for n, (_, *shape) in self.info["star"].items()}

    @cached_property
    def transformer(self) -> InfinityStar:
        """Shared between tests: do not change it."""
        return infinity_star_from_official(self.transformer_state)

    def text(self, numbers: Sequence[int], lengths: Sequence[int]) -> ns.TextFeatures:
        """Texts by their numbers."""
        width = self.info["config"]["star"]["text_width"]
        texts = (normal(f"{self.salt}/text/{i}", n, width) for i, n in zip(numbers, lengths, strict=True))
        return ns.TextFeatures(torch.cat(list(texts)), lengths)

    def features(self, latent_frames: int) -> torch.Tensor:
        """Latents of a video, (1, 64, N, h, w)."""
        size = self.info["config"]["schedule"]["sizes"][-1]
        return 0.5 * normal(f"{self.salt}/input/feature_{latent_frames}", 1, 64, latent_frames, *size)

    def schedule(self, latent_frames: int) -> SpacetimeSchedule:
        schedule = self.info["config"]["schedule"]
        return SpacetimeSchedule(
            tuple(map(tuple, schedule["sizes"])),
            latent_frames,
            tuple(schedule["image_repetition"]),
            tuple(schedule["clip_repetition"]),
            schedule["detail_scale_min_tokens"],
            schedule["frames_per_clip"],
        )
