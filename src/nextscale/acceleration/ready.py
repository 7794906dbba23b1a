"""Models made ready for drawing: matrices in the precision and the layout that the device computes fastest with.

What is not a large matrix (norms, embeddings, biases, codebook, phi convolutions, canvas) and the sums between blocks
stay in float32. The models are not changed, and all that needs no other form is shared with them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.acceleration.int8 import Int8Linear, has_fast_int8
from nextscale.acceleration.winograd import WinogradConv3x3, is_worth_it
from nextscale.errors import InputError
from nextscale.runtime.allocator import page_out
from nextscale.runtime.device import DTYPES, has_fast_bfloat16, multiplies_by_onednn, precision
from nextscale.tokenizer.autoencoder import Upsample, four_kernels
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.adaln_block import MLP
from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.var import VAR, VARConfig

LEAST_WIDTH = 512
"""Of transformers that are faster in bfloat16."""
INT8 = "int8-"
"""Before the name of the precision that is beside it."""
ROWS = 512
"""Rows of a product that weights are laid out for."""
INT8_TOKENS = 64
"""Of scales that int8 begins at: 8x8 and larger. They are most of the work."""


class ReadyLinear(nn.Module):
    """A linear layer in a given precision; on the CPU with its weights packed in the blocks that oneDNN multiplies by.

    There a row's result does not depend on the other rows: images do not depend on their batch, bit for bit.

    Args:
        gelu: whether GELU, in its tanh form, follows.
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
        alone = x.numel() == x.shape[-1]  # a single row would be multiplied by another kernel
        rows = x.reshape(1, -1).expand(2, -1) if alone else x
        after = ("gelu", [], "tanh") if self.gelu else ("none", [], "")
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, *after)
        return y[:1].view(*x.shape[:-1], -1) if alone else y


class LateInt8Linear(ReadyLinear):
    """A linear layer in a given precision at the first scales and in int8 at the larger ones.

    What is wrong at the first scales changes all later ones. Which it is depends on the tokens of one image's scale,
    not on the batch: images do not depend on it either. Both forms of the weights are kept.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False):
        super().__init__(weight, bias, dtype, gelu)
        self.int8 = Int8Linear(weight, bias, dtype, gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, C'), in int8 if n is at least `INT8_TOKENS`."""
        return super().forward(x) if x.shape[-2] < INT8_TOKENS else self.int8(x)


def name_dtype(name: str, model: VARConfig, device: torch.device) -> str:
    """What a precision is here. "auto" is bfloat16 where that is fast and the matrices are so large that it is faster,
    else float32. "int8" says what is beside it: int8-bfloat16 where that is fast, else int8-float32.

    bfloat16 changes what is drawn, about as much as another machine does. A GPU's float32 is its full one.
    """
    fast = has_fast_bfloat16(device)
    if name == "auto":
        return "bfloat16" if fast and model.width >= LEAST_WIDTH else "float32"
    if name == "int8":
        return INT8 + ("bfloat16" if fast else "float32")
    return name


def drawing_dtype(name: str, device: torch.device) -> tuple[torch.dtype, bool]:
    """(The precision of matrix products and convolutions, whether the large ones of late scales are in int8 instead),
    from a name that `name_dtype` gives.

    Raises:
        InputError: another type, or one that the device cannot compute in, or only slowly.
    """
    in_int8, plain = name.startswith(INT8), name.removeprefix(INT8)
    precision(plain, device)
    if in_int8 and not has_fast_int8(device):
        raise InputError(f"dtype int8 is for CPUs with AVX512-VNNI, not for {device} of this machine: try bfloat16")
    return DTYPES[plain], in_int8


@torch.no_grad()
def ready_transformer(model: VAR, dtype: torch.dtype, int8: bool = False) -> VAR:
    """A model that draws what this one draws; its matrices are its own.

    With ``int8`` those of the blocks' attention and MLP are int8 at scales of `INT8_TOKENS` or more.

    The head stays in float32: its part of the work is small, and logits are what tokens are drawn from. In bfloat16
    many would be equal.
    """
    with torch.device("meta"):
        ready = VAR(model.config)
    of_block = LateInt8Linear if int8 else ReadyLinear
    for name, module in list(model.named_modules()):
        if isinstance(module, SelfAttention):
            ready.set_submodule(f"{name}.qkv", of_block(module.qkv.weight, module.qkv_bias(), dtype))
        elif isinstance(module, MLP):
            ready.set_submodule(f"{name}.up", of_block(module.up.weight, module.up.bias, dtype, gelu=True))
            ready.set_submodule(f"{name}.gelu", nn.Identity())
        elif isinstance(module, nn.Linear) and not name.endswith((".qkv", ".up")):
            if name.startswith("blocks."):
                ready.set_submodule(name, of_block(module.weight, module.bias, dtype))
            else:
                kind = dtype if name.startswith("adaln.") else torch.float32
                ready.set_submodule(name, ReadyLinear(module.weight, module.bias, kind))
    state = model.state_dict()
    ready.load_state_dict({name: state[name] for name in ready.state_dict()}, assign=True)
    return ready.requires_grad_(False).eval()


@torch.no_grad()
def ready_tokenizer(tokenizer: ImageTokenizer, dtype: torch.dtype) -> ImageTokenizer:
    """A tokenizer that decodes in a given precision, and encodes in float32; codes are shared."""
    on_cpu = tokenizer.post_quant_conv.weight.device.type == "cpu"
    with torch.device("meta"):
        ready = ImageTokenizer(tokenizer.config)
    ready.load_state_dict(tokenizer.state_dict(), assign=True)
    ready.requires_grad_(False).eval()
    for part in (ready.post_quant_conv, ready.decoder) if dtype != torch.float32 else ():
        for module in part.modules():
            if isinstance(module, nn.Conv2d) or (isinstance(module, nn.GroupNorm) and not on_cpu):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    layout = torch.channels_last if parameter.ndim == 4 else torch.preserve_format
                    small = parameter.to(dtype).contiguous(memory_format=layout)
                    module.register_parameter(name, nn.Parameter(small, requires_grad=False))
    for name, module in list(ready.named_modules()) if on_cpu else ():
        if isinstance(module, Upsample):
            module.kernels = four_kernels(module.conv.weight)
        if name.startswith(("encoder.", "decoder.")) and isinstance(module, nn.Conv2d) and is_worth_it(module):
            within_block = name.endswith((".conv1", ".conv2"))  # behind a norm, whose result nothing else needs
            ready.set_submodule(name, WinogradConv3x3(module, name.startswith("decoder."), within_block))
    return ready


def make_ready(
    tokenizer: ImageTokenizer, model: VAR, dtype: torch.dtype, int8: bool = False
) -> tuple[ImageTokenizer, VAR]:
    """Both, ready for drawing. The memory that the originals are mapped to goes back to the system."""
    ready = ready_tokenizer(tokenizer, dtype), ready_transformer(model, dtype, int8)
    kept = {tensor.data_ptr() for module in ready for tensor in module.state_dict().values()}
    kept |= {m.weight.data_ptr() for m in ready[1].modules() if isinstance(m, ReadyLinear) and not m.packed}
    page_out(p for module in (tokenizer, model) for p in module.parameters() if p.data_ptr() not in kept)
    return ready
