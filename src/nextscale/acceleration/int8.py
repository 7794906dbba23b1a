"""Linear layers in int8, for CPUs on which int8 is the fastest precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST, MIDDLE = 127, 128
LEAST = 1e-12


class Int8Linear(nn.Module):
    """A linear layer with int8 weights (one scale per output) and inputs quantized to int8 (one scale per row).

    Sums of products are exact. The result of a row does not depend on the other rows.

    Args:
        dtype: type of the result, float32 or bfloat16.
        gelu: apply the tanh form of GELU to the result.
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
