"""The golden cases: results of the reference, and a formula for its weights."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import nextscale as ns
from nextscale.official.var import from_official

FOLDER = Path(__file__).parent / "data" / "golden"
NAMES = ("base", "plain_attention", "shared_adaln")

NORMS = ("norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight")
EMBEDDINGS = ("class_emb.weight", "lvl_embed.weight", "pos_start", "pos_1LC")


def fill(
    salt: str,
    part: str,
    name: str,
    shape: list[int],
    norms: tuple[str, ...] = NORMS,
    embeddings: tuple[str, ...] = EMBEDDINGS,
    unscaled: str = "quantize.embedding.weight",
    spread: float = 0.3,
) -> torch.Tensor:
    """A weight of the reference: a normal random tensor that depends on its name, scaled by its kind.

    Args:
        norms, embeddings: endings of names.
        spread: standard deviation of the attention scales.
    """
    rng = np.random.RandomState(zlib.crc32(f"{salt}/{part}/{name}".encode()))
    x = rng.standard_normal(shape)
    if name.endswith("scale_mul_1H11"):
        x = math.log(4) + spread * x
    elif name == unscaled:
        pass
    elif name.endswith(norms):
        x = 1 + 0.1 * x
    elif name.endswith(embeddings):
        x = 0.5 * x
    elif name.endswith("ada_gss"):
        x = 0.3 * x
    elif len(shape) >= 2:
        x = x / math.sqrt(math.prod(shape[1:]))
    else:
        x = 0.1 * x
    return torch.from_numpy(x).float()


@dataclass(frozen=True)
class Golden:
    """One case: its arrays, and our models with its weights."""

    name: str

    @cached_property
    def info(self) -> dict:
        return json.loads((FOLDER / f"{self.name}.json").read_text())

    @cached_property
    def arrays(self) -> dict[str, torch.Tensor]:
        with np.load(FOLDER / f"{self.name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}

    def state(self, part: str) -> dict[str, torch.Tensor]:
        """The official state, parameters only."""
        layout = self.info[part]
        return {n: fill(self.info["salt"], part, n, e["shape"]) for n, e in layout.items() if not e["constant"]}

    @property
    def schedule(self) -> ns.ScaleSchedule:
        return ns.ScaleSchedule.square(self.info["config"]["patch_nums"])

    def models(self) -> tuple[ns.ImageTokenizer, ns.VAR]:
        znorm = self.info["config"].get("using_znorm", False)
        return from_official(self.state("vae"), self.state("var"), schedule=self.schedule, znorm=znorm)

    def tokens(self, prefix: str = "tokens") -> list[torch.Tensor]:
        return [self.arrays[f"{prefix}_{k}"].long() for k in range(self.schedule.num_scales)]
