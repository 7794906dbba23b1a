"""Prepare models for sampling: convert matrices to the device's fastest precision and memory layout.

Large matrices and convolutions change precision. Everything else (norms, embeddings, biases, codebook, phi
convolutions, canvas) and the residual sums stay in float32. The given models do not change. Unconverted tensors are
shared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.acceleration import cpu_attention
from nextscale.acceleration.decoding import without_gradients
from nextscale.acceleration.int8 import Int8Linear
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.upsample import FourKernelUpsample
from nextscale.acceleration.winograd import WinogradConv3x3, is_worth_it
from nextscale.runtime.allocator import page_out
from nextscale.runtime.device import multiplies_by_onednn
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.adaln_block import MLP
from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.next_scale import NextScaleTransformer
from nextscale.transformer.var import VARConfig

ROWS = 512
"""Number of rows for which the weights are packed."""
PAGED_OUT = 2**28
"""Bytes of converted originals after which their memory is returned to the system."""
INT8_TOKENS = 64
"""int8 is used for scales of at least this many tokens, 8x8, which need most of the products."""


class ReadyLinear(nn.Module):
    """A linear layer in a given precision. On the CPU its weights are packed into oneDNN's block format.

    On the CPU the result of a row does not depend on the other rows, so images do not depend on their batch, bit for
    bit.

    Args:
        gelu: apply the tanh form of GELU to the result.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False):
        super().__init__()
        self.gelu, self.dtype = gelu, dtype
        self.packed = multiplies_by_onednn(weight.device, dtype)
        weight = weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.packed else weight
        self.bias = None if bias is None else bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if not self.packed:
            y = F.linear(x, self.weight, self.bias)
            return F.gelu(y, approximate="tanh") if self.gelu else y
        alone = x.numel() == x.shape[-1]  # oneDNN uses another kernel for a single row
        rows = x.reshape(1, -1).expand(2, -1) if alone else x
        after = ("gelu", [], "tanh") if self.gelu else ("none", [], "")
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, *after)
        return y[:1].view(*x.shape[:-1], -1) if alone else y


class LateInt8Linear(ReadyLinear):
    """A linear layer in a given precision at small scales and in int8 at large ones.

    Errors at the first scales would affect all later ones. The choice depends on the number of tokens of a scale, not
    on the batch size, so images do not depend on their batch. The layer keeps both forms of the weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False):
        super().__init__(weight, bias, dtype, gelu)
        self.int8 = Int8Linear(weight, bias, dtype, gelu)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer, in int8 if n is at least `INT8_TOKENS`. (B, n, C) -> (B, n, C')."""
        return super().forward(x) if x.shape[-2] < INT8_TOKENS else self.int8(x)


class ReadyAttention(SelfAttention):
    """Self-attention for sampling, without gradients. The layer ``qkv`` includes the biases of q and v."""

    def project(self, x: Tensor) -> Tensor:
        return self.qkv(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().attend(q, k, v, mask) if mask is not None else cpu_attention.attend(q, k, v, self.scale)


ModelT = TypeVar("ModelT", bound=NextScaleTransformer)


@torch.no_grad()
def ready_transformer(
    model: ModelT,
    dtype: torch.dtype,
    int8: bool = False,
    converted: Callable[[Tensor], None] = lambda weight: None,
    device: torch.device | None = None,
) -> ModelT:
    """Return a copy of a model with converted matrices, for sampling.

    The head stays in float32. It needs few products, and in bfloat16 many logits would be equal.

    Args:
        dtype: type of the matrices.
        int8: use int8 for the matrices of attention and MLP at scales of `INT8_TOKENS` tokens or more.
        converted: called with each matrix of the model after it was copied to another precision or layout.
        device: device of the copy; None means that of the model.
    """
    c, device = model.config, device or model.device
    with torch.device("meta"):
        build: Any = type(model)
        ready: ModelT = build(c)
        l2_norm = not isinstance(c, VARConfig) or c.l2_norm
        for block in ready.blocks:
            if isinstance(block.attention, SelfAttention):
                block.set_submodule("attention", ReadyAttention(c.width, c.heads, l2_norm))
    of_block = LateInt8Linear if int8 else ReadyLinear

    def put(
        name: str,
        layer_type: type[ReadyLinear],
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype = dtype,
        **options: bool,
    ) -> None:
        layer = layer_type(weight.to(device), None if bias is None else bias.to(device), dtype, **options)
        ready.set_submodule(name, layer)
        if layer.packed or layer.weight.data_ptr() != weight.data_ptr():
            converted(weight)

    kept_64 = getattr(model, "float64_layers", ())
    for name, module in list(model.named_modules()):
        if isinstance(module, SelfAttention):
            put(f"{name}.qkv", of_block, module.qkv.weight, module.qkv_bias())
        elif isinstance(module, MLP):
            put(f"{name}.up", of_block, module.up.weight, module.up.bias, gelu=True)
            ready.set_submodule(f"{name}.gelu", nn.Identity())
        elif isinstance(module, nn.Linear) and isinstance(ready.get_submodule(name), nn.Linear) and name not in kept_64:
            in_block = name.startswith("blocks.")  # attention and MLP are done above
            kept = not in_block and name.partition(".")[0] != "adaln"
            at_scales = in_block and not name.endswith(".key_value")  # whose rows are text tokens, not a scale
            layer_type = of_block if at_scales else ReadyLinear
            put(name, layer_type, module.weight, module.bias, torch.float32 if kept else dtype)
    state = model.state_dict()
    ready.load_state_dict({name: state[name].to(device, torch.float32) for name in ready.state_dict()}, assign=True)
    return ready.requires_grad_(False).eval()


@torch.no_grad()
def ready_tokenizer(
    tokenizer: ImageTokenizer, dtype: torch.dtype, device: torch.device | None = None, tiles: bool = False
) -> ImageTokenizer:
    """Return a tokenizer that decodes in the given precision and encodes in float32. The codebook is shared.

    Args:
        device: device that decodes; None means that of the tokenizer. The encoder is not moved.
        tiles: see `FewImagesTokenizer`.
    """
    ready = without_gradients(tokenizer, device, tiles)
    on_cpu = ready.decoder.conv_out.weight.device.type == "cpu"
    for part in (ready.post_quant_conv, ready.decoder) if dtype != torch.float32 else ():
        for module in part.modules():
            if isinstance(module, nn.Conv2d) or (isinstance(module, nn.GroupNorm) and not on_cpu):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    layout = torch.channels_last if parameter.ndim == 4 else torch.preserve_format
                    small = parameter.to(dtype).contiguous(memory_format=layout)
                    module.register_parameter(name, nn.Parameter(small, requires_grad=False))
    for name, module in list(ready.named_modules()) if on_cpu else ():
        if isinstance(module, FourKernelUpsample):
            module.keep_kernels()
        elif name.startswith(("encoder.", "decoder.")) and isinstance(module, nn.Conv2d) and is_worth_it(module):
            within_block = name.endswith((".conv1", ".conv2"))  # its input, after a norm, is not used elsewhere
            ready.set_submodule(name, WinogradConv3x3(module, name.startswith("decoder."), within_block))
    return ready


def make_tokenizer(tokenizer: Any, dtype: torch.dtype, device: torch.device | None = None, tiles: bool = False) -> Any:
    """Return `ready_tokenizer` of a tokenizer of images or of videos. The latter decode chunks of frames, not tiles."""
    if isinstance(tokenizer, ImageTokenizer):
        return ready_tokenizer(tokenizer, dtype, device, tiles)
    from nextscale.acceleration.ready_video import ready_video_tokenizer  # most models generate images

    return ready_video_tokenizer(tokenizer, dtype, device)


def make_ready(tokenizer: Any, model: ModelT, precision: Precision, tiles: bool = False) -> tuple[Any, ModelT]:
    """Prepare both models for sampling. Memory of the originals that is mapped from files is returned to the system.

    Args:
        tiles: see `FewImagesTokenizer`.
    """
    ready = make_tokenizer(tokenizer, precision.dtype, tiles=tiles), make_transformer(model, precision)
    page_out_unused((tokenizer, model), ready)
    return ready


def make_transformer(model: ModelT, precision: Precision, device: torch.device | None = None) -> ModelT:
    """Prepare a transformer. Memory of the originals is returned in between, so that it is never in memory twice."""
    pending: list[Tensor] = []

    def converted(weight: Tensor) -> None:
        pending.append(weight)
        if sum(tensor.nbytes for tensor in pending) >= PAGED_OUT:
            page_out(pending)
            pending.clear()

    return ready_transformer(model, precision.dtype, precision.int8, converted, device)


def page_out_unused(originals: Sequence[nn.Module], ready: Sequence[nn.Module]) -> None:
    """Return the memory of the weights that prepared models do not share with their originals to the system."""
    kept = {tensor.data_ptr() for module in ready for tensor in module.state_dict().values()}
    layers = [m for module in ready for m in module.modules() if isinstance(m, ReadyLinear)]
    kept |= {layer.weight.data_ptr() for layer in layers if not layer.packed}
    page_out(p for module in originals for p in module.parameters() if p.data_ptr() not in kept)
