"""The precision of sampling, as one record."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nextscale.errors import InputError
from nextscale.runtime.device import DTYPES, has_fast_bfloat16, has_fast_int8
from nextscale.runtime.device import precision as autocast_to

MIN_BFLOAT16_WIDTH = 512
"""Narrower transformers are not faster in bfloat16."""
INT8 = "int8"


@dataclass(frozen=True)
class Precision:
    """The precision of matrix products and convolutions when sampling."""

    dtype: torch.dtype = torch.float32
    int8: bool = False
    """Whether large matrices of large scales are int8 instead: see `nextscale.acceleration.ready.ready_transformer`."""

    @classmethod
    def parse(cls, name: str, width: int, device: torch.device) -> Precision:
        """Return the precision of a given name.

        bfloat16 changes sampled images about as much as another machine does. A GPU's float32 is its full one.

        Args:
            name: "float32", "bfloat16", "float16", "int8-float32", "int8-bfloat16"; "auto" for bfloat16 where it is
                fast and the transformer is wide enough to gain from it, else float32; "int8" for "int8-bfloat16" where
                bfloat16 is fast, else "int8-float32".
            width: C of the transformer.
            device: where it will compute.

        Raises:
            InputError: an unknown name, or a type that the device cannot compute in, or only slowly.
        """
        if name in ("auto", INT8):
            fast = has_fast_bfloat16(device) and (name == INT8 or width >= MIN_BFLOAT16_WIDTH)
            plain = "bfloat16" if fast else "float32"
            name = plain if name == "auto" else f"{INT8}-{plain}"
        in_int8, plain = name.startswith(f"{INT8}-"), name.removeprefix(f"{INT8}-")
        autocast_to(plain, device)
        if in_int8 and not has_fast_int8(device):
            raise InputError(f"dtype int8 is for CPUs with AVX512-VNNI, not for {device} of this machine: try bfloat16")
        return cls(DTYPES[plain], in_int8)

    @property
    def name(self) -> str:
        """The name from which `parse` makes this precision, such as "float32" or "int8-bfloat16"."""
        plain = str(self.dtype).removeprefix("torch.")
        return f"{INT8}-{plain}" if self.int8 else plain

    @property
    def without_int8(self) -> Precision:
        """The precision of everything that is not int8, such as decoding."""
        return replace(self, int8=False)

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return autocast to this precision, without int8, for models that are not prepared for sampling."""
        return autocast_to(self.without_int8.name, device)
