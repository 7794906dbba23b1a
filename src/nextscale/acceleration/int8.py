"""Linear layers in int8, for CPUs that multiply it faster than anything else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST, MIDDLE = 127, 128
LEAST = 1e-12


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8 with a scale for each output, and whose input is rounded to int8 with a
    scale for each row. Products are summed exactly.

    A row's result does not depend on the other rows.

    Args:
        dtype: of the result, float32 or bfloat16.
        gelu: whether GELU, in its tanh form, follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False):
        super().__init__()
        self.gelu, self.dtype = gelu, dtype
        weight = weight.detach().float()
        self.scale = weight.abs().amax(1).clamp_min(LEAST) / LARGEST
        rounded = (weight / self.scale.unsqueeze(1)).round_().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self.zero = torch.zeros(len(rounded), dtype=torch.int64)
        self.bias = torch.zeros(len(rounded)) if bias is None else bias.detach()
        self.bias = self.bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().amax(-1, keepdim=True).float().clamp_min(LEAST) / LARGEST
        rounded = (x / scale).round_().add_(MIDDLE).to(torch.uint8)  # oneDNN is slow on signed numbers
        y = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, MIDDLE, self.weight, self.scale, self.zero, None, 1.0, 0, self.dtype, "none", [], ""
        )
        y = torch.addcmul(self.bias, y, scale.to(y.dtype))
        return F.gelu(y, approximate="tanh") if self.gelu else y


def has_fast_int8(device: torch.device) -> bool:
    """Whether `Int8Linear` computes here, and faster than any other: on CPUs with AVX512-VNNI, through oneDNN."""
    if device.type != "cpu" or not torch.cpu._is_vnni_supported():
        return False
    return all(hasattr(torch.ops.onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise"))
