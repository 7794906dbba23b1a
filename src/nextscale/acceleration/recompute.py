"""Training in less memory: what is cheap to compute is not kept for the backward pass, but computed again there.

Between two matrix products lie norms, GELU, the lengths of q and k. PyTorch keeps what each of them gives; here only
the results of products and the sums between blocks are kept, half as much. Nothing but products is slow, so that
computing the rest twice costs about 2 % of a step.

This is for training on the CPU without torch.compile, which decides by itself what to keep; elsewhere, `later` computes
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nextscale.runtime.device import is_intel, multiplies_by_onednn


@dataclass(frozen=True)
class Later:
    """A tensor, or a tuple of them, that is made when it is needed."""

    make: Callable[..., Any]
    inputs: tuple[Tensor, ...]


def later(make: Callable[..., Any], *inputs: Tensor) -> Any:
    """``make(*inputs)``, for a `Linear` or for attention; in training on the CPU a `Later`.

    ``make`` depends on its inputs alone, and is differentiable.
    """
    if torch.is_grad_enabled() and inputs[0].device.type == "cpu" and not torch.compiler.is_compiling():
        return Later(make, inputs)
    return make(*inputs)


class Linear(nn.Linear):
    """A linear layer that also takes a `Later`."""

    def forward(self, input: Tensor | Later) -> Tensor:
        """(..., C) -> (..., O)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor | Later, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, in autocast's precision if there is one."""
    if isinstance(x, Later):
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else weight.dtype
        return LinearOfLater.apply(x.make, dtype, weight, bias, *x.inputs)  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


class LinearOfLater(torch.autograd.Function):
    """y = make(inputs) W^T + b. Of its factors only inputs and W are kept, W in its own precision."""

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
        with Again(ctx.make, inputs, wanted[4:]) as again:
            x = again.made
            weight_gradient = None
            if wanted[2]:
                columns = x.detach().to(ctx.dtype).flatten(0, -2).t()
                weight_gradient = product(rows.t(), columns).to(weight.dtype)
            if any(wanted[4:]):
                again.pass_back((product(gradient, weight.to(ctx.dtype).t()).to(x.dtype),))
        return None, None, weight_gradient, bias_gradient, *again.gradients


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b. PyTorch takes MKL in float32: a sixth faster than oneDNN on Intel's CPUs, slower on AMD's."""
    if x.dtype == torch.float32 and not is_intel() and multiplies_by_onednn(x.device, x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class Again:
    """Within a backward pass: what ``make`` gave, made again, and the way back through it."""

    def __init__(self, make: Callable[..., Any], inputs: Sequence[Tensor], wanted: Sequence[bool]):
        self.inputs = [x.detach().requires_grad_(want) for x, want in zip(inputs, wanted, strict=True)]
        self.gradients: list[Tensor | None] = [None] * len(self.inputs)
        self._make = make

    def __enter__(self) -> Again:
        with torch.enable_grad():
            self.made = self._make(*self.inputs)
        return self

    def pass_back(self, gradients: Sequence[Tensor]) -> None:
        """From the gradients of what was made to those of the inputs."""
        made = self.made if isinstance(self.made, tuple) else (self.made,)
        pairs = [(x, g) for x, g in zip(made, gradients, strict=True) if x.requires_grad]
        places = [i for i, x in enumerate(self.inputs) if x.requires_grad]
        found = torch.autograd.grad([x for x, _ in pairs], [self.inputs[i] for i in places], [g for _, g in pairs])
        for i, gradient in zip(places, found, strict=True):
            self.gradients[i] = gradient

    def __exit__(self, *_: object) -> None:
        del self.made
