"""The golden cases of Infinity: results of the reference, and a formula for its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from golden import fill

import nextscale as ns
from nextscale.official.infinity import from_official
from nextscale.transformer.infinity import Infinity

FOLDER = Path(__file__).parent / "data" / "infinity"
NAMES = ("square", "patchify", "wide")
BUFFERS = ("zero_k_bias", "lfq.mask")
EMBEDDINGS = ("lvl_embed.weight", "pos_start", "sos.ca.mat_q")

Layout = dict[str, list]
"""Name -> [dtype, *shape] of each tensor."""


@dataclass(frozen=True)
class Golden:
    """One case: its arrays, and our models with its weights."""

    name: str

    @cached_property
    def info(self) -> dict:
        return json.loads((FOLDER / f"{self.name}.json").read_text())

    @cached_property
    def arrays(self) -> dict[str, torch.Tensor]:
        """Inputs and results of encoder, tokenizer and transformer."""
        return read(self.name)

    @cached_property
    def samples(self) -> dict[str, torch.Tensor]:
        """Results of sampling, without images."""
        return read(f"{self.name}-samples")

    @cached_property
    def images(self) -> dict[str, torch.Tensor]:
        return read(f"{self.name}-images")

    @cached_property
    def schedule(self) -> ns.ScaleSchedule:
        return ns.ScaleSchedule.infinity(self.info["budget"], self.info["ratio"])

    def state(self, part: str) -> dict[str, torch.Tensor]:
        """Return the official state "vae" or "transformer", parameters only."""
        salt, spread = self.info["salt"], self.info["scale_spread"]
        layout: Layout = self.info[part]
        return {
            name: fill(salt, part, name, shape, ("norm.weight",), EMBEDDINGS, "cfg_uncond", spread)
            for name, (_, *shape) in layout.items()
            if not name.endswith(BUFFERS)
        }

    @cached_property
    def models(self) -> tuple[ns.ImageTokenizer, Infinity]:
        """Shared between tests: do not change them."""
        return from_official(self.state("vae"), self.state("transformer"), schedule=self.schedule)

    @cached_property
    def text(self) -> ns.TextFeatures:
        return ns.TextFeatures(self.arrays["text_features"], self.info["text_lengths"])

    @cached_property
    def negative(self) -> ns.TextFeatures:
        return ns.TextFeatures(self.arrays["negative_features"], self.info["negative_lengths"])

    @cached_property
    def tokens(self) -> list[torch.Tensor]:
        """The bits of the case's images."""
        return [self.to_tokens(self.arrays[f"bits_{k}"]) for k in range(self.schedule.num_scales)]

    def to_tokens(self, grid: torch.Tensor) -> torch.Tensor:
        """Return bits of the tokenizer's layout as tokens. (B, p h, p w, d) uint8 -> (B, n, p^2 d) bool."""
        grid = grid.movedim(-1, 1)
        patch = self.models[0].pyramid.moves.patch
        if patch > 1:
            grid = F.pixel_unshuffle(grid.float(), patch)
        return grid.flatten(2).mT.bool()


@lru_cache
def golden(name: str) -> Golden:
    """Return a case, one object for all tests of a process."""
    return Golden(name)


def read(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@lru_cache
def official_layouts() -> dict[str, dict]:
    """Return the layout of each published model, {"tensors": Layout, "parameters": their number}.

    The file stores the tensors of one block for all blocks, and for similar tokenizers only what differs.
    """
    stored = json.loads((FOLDER / "official_checkpoint_layouts.json").read_text())
    layouts: dict[str, dict] = {}
    for name, entry in stored.items():
        tensors: Layout = dict(layouts[entry["like"]]["tensors"]) if "like" in entry else {}
        tensors |= entry["tensors"]
        for chunk in range(entry.get("chunks", 0)):
            for place in range(entry["blocks_per_chunk"]):
                tensors |= {f"block_chunks.{chunk}.module.{place}.{n}": t for n, t in entry["block"].items()}
        layouts[name] = {"tensors": tensors, "parameters": entry["parameters"]}
    return layouts
