"""A linear layer that recomputes its cheap input in the backward pass instead of storing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextscale.runtime.device import is_intel, multiplies_by_onednn


def recomputed_linear(
    make: Callable[..., Tensor], inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Return make(*inputs) W^T + b, (..., O), in the precision of autocast if it is on.

    Only ``inputs`` and the weight are saved for the backward pass, the weight in its original precision.

    Args:
        make: function from the inputs to a tensor (..., C). It must be differentiable and pure.
        weight, bias: (O, C) and (O,).
    """
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else weight.dtype
    return _RecomputedLinear.apply(make, dtype, weight, bias, *inputs)  # type: ignore[no-any-return]


class Recomputation:
    """Context manager that recomputes ``make(*inputs)`` in a backward pass, and backpropagates through it.

    Args:
        inputs: the saved inputs.
        wanted: whether each input needs a gradient.
    """

    def __init__(self, make: Callable[..., Any], inputs: Sequence[Tensor], wanted: Sequence[bool]):
        self.inputs = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
        self.gradients: list[Tensor | None] = [None] * len(self.inputs)
        """Gradients of the inputs, after `pass_back`."""
        self._make = make

    def __enter__(self) -> Recomputation:
        with torch.enable_grad():
            self.made = self._make(*self.inputs)
        return self

    def pass_back(self, gradients: Sequence[Tensor]) -> None:
        """Compute the gradients of the inputs from the gradients of the result."""
        made = self.made if isinstance(self.made, tuple) else (self.made,)
        pairs = [(x, g) for x, g in zip(made, gradients, strict=True) if x.requires_grad]
        places = [i for i, x in enumerate(self.inputs) if x.requires_grad]
        found = torch.autograd.grad([x for x, _ in pairs], [self.inputs[i] for i in places], [g for _, g in pairs])
        for i, gradient in zip(places, found, strict=True):
            self.gradients[i] = gradient

    def __exit__(self, *_: object) -> None:
        del self.made


class _RecomputedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, make: Callable[..., Tensor], dtype: torch.dtype, weight: Tensor, bias: Tensor | None, *inputs: Tensor
    ) -> Tensor:
        ctx.make, ctx.dtype = make, dtype
        ctx.save_for_backward(weight, *inputs)
        with torch.autocast("cpu", enabled=False):
            x = make(*inputs).to(dtype)
            return product(x, weight.to(dtype), None if bias is None else bias.to(dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (gradient,) = gradients
        weight, *inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        bias_gradient = rows.sum(0).to(weight.dtype) if wanted[3] else None
        with Recomputation(ctx.make, inputs, wanted[4:]) as again:
            x = again.made
            weight_gradient = None
            if wanted[2]:
                columns = x.detach().to(ctx.dtype).flatten(0, -2).t()
                weight_gradient = product(rows.t(), columns).to(weight.dtype)
            if any(wanted[4:]):
                again.pass_back((product(gradient, weight.to(ctx.dtype).t()).to(x.dtype),))
        return None, None, weight_gradient, bias_gradient, *again.gradients


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, computed with the faster library.

    PyTorch uses MKL for float32. It is a sixth faster than oneDNN on Intel's CPUs, and slower on AMD's.
    """
    if x.dtype == torch.float32 and not is_intel() and multiplies_by_onednn(x.device, x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)
