"""The precision of sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from nextscale.errors import InputError, brief
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
    """Use int8 for large matrices at large scales; see `nextscale.acceleration.ready.ready_transformer`."""

    @classmethod
    def parse(cls, name: str, width: int, device: torch.device) -> Precision:
        """Return the precision with a given name.

        bfloat16 changes sampled images about as much as a different machine does. float32 on a GPU never uses TF32.

        Args:
            name: "float32", "bfloat16", "float16", "int8-float32" or "int8-bfloat16". "auto" is bfloat16 if the device
                computes it fast and the transformer is wide enough to benefit, else float32. "int8" is "int8-bfloat16"
                if the device computes bfloat16 fast, else "int8-float32".
            width: width C of the transformer.
            device: device to sample on.

        Raises:
            InputError: the name is unknown, or the device does not support the type or is slow at it.
        """
        if not isinstance(name, str):
            raise InputError(f"dtype is a text such as float32, not {brief(name)}")
        if name in ("auto", INT8):
            fast = has_fast_bfloat16(device) and (name == INT8 or width >= MIN_BFLOAT16_WIDTH)
            plain = "bfloat16" if fast else "float32"
            name = plain if name == "auto" else f"{INT8}-{plain}"
        in_int8, plain = name.startswith(f"{INT8}-"), name.removeprefix(f"{INT8}-")
        autocast_to(plain, device)
        if in_int8 and not has_fast_int8(device):
            raise InputError(f"dtype int8 needs a CPU with AVX512-VNNI, not {device} of this machine: try bfloat16")
        return cls(DTYPES[plain], in_int8)

    @property
    def name(self) -> str:
        """Return the name of this precision for `parse`, such as "float32" or "int8-bfloat16"."""
        plain = str(self.dtype).removeprefix("torch.")
        return f"{INT8}-{plain}" if self.int8 else plain

    @property
    def without_int8(self) -> Precision:
        """Return the precision of all parts that are not int8, such as decoding."""
        return replace(self, int8=False)

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return an autocast context with this precision, without int8, for models that were not prepared."""
        return autocast_to(self.without_int8.name, device)
