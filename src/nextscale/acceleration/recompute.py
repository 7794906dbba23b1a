"""Training in less memory: cheap intermediate results are recomputed in the backward pass instead of stored.

Between two matrix products lie norms, GELU, and the L2 normalization of q and k. PyTorch stores the result of each of
them. Here only the results of products and the residual sums are stored, which takes half as much memory. The products
take most of the time, so recomputing the other results adds about 2 % to a step.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextscale.acceleration.cpu_attention import recomputed_attention
from nextscale.acceleration.recomputed_linear import recomputed_linear
from nextscale.transformer.adaln_block import Block, modulate
from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.cache import LayerCache
from nextscale.transformer.cross_attention import CrossAttention, PaddedText, TextKeysValues
from nextscale.transformer.next_scale import NextScaleTransformer
from nextscale.transformer.rope import rotate
from nextscale.transformer.visibility import Span


def recompute_cheap_parts(network: nn.Module) -> None:
    """Enable recomputation of the cheap parts of a network in training, in place.

    The blocks and the head of a transformer get another ``forward``. Parameters, their names and the state dictionary
    do not change, nor do results, up to rounding. Without gradients the network computes as before. Networks without
    such blocks, and networks that are not on the CPU, do not change. Do not combine this with torch.compile, which
    chooses the tensors to recompute by itself.
    """
    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        return
    for module in network.modules():
        if isinstance(module, Block):
            module.forward = MethodType(_block, module)
        elif isinstance(module, NextScaleTransformer):
            module.features = MethodType(_features, module)
            head: Any = module.head
            head.forward = MethodType(_head, head)


def _block(
    block: Block,
    x: Tensor,
    vectors: Tensor,
    spans: list[Span] | None = None,
    past: LayerCache | None = None,
    path_scale: Tensor | None = None,
    rotation: Tensor | None = None,
    text: TextKeysValues | PaddedText | None = None,
) -> Tensor:
    """Compute `Block.forward` under teacher forcing."""
    if spans is None or not torch.is_grad_enabled():
        return Block.forward(block, x, vectors, spans, past, path_scale, rotation, text)
    gamma1, gamma2, scale1, scale2, shift1, shift2 = vectors.unbind(1)
    if path_scale is not None:
        gamma1, gamma2 = gamma1 * path_scale[0, :, None], gamma2 * path_scale[1, :, None]
    attended = _attention(block.attention, x, scale1, shift1, spans, rotation)
    x = torch.addcmul(x, gamma1.unsqueeze(1), attended)
    if block.cross_attention is not None and block.cross_norm is not None and text is not None:
        x = x + _cross_attention(block.cross_attention, block.cross_norm, x, text)
    mlp = block.mlp
    hidden = recomputed_linear(modulate, (x, scale2, shift2), mlp.up.weight, mlp.up.bias)
    down = recomputed_linear(mlp.gelu, (hidden,), mlp.down.weight, mlp.down.bias)
    return torch.addcmul(x, gamma2.unsqueeze(1), down)


def _attention(
    attention: SelfAttention, x: Tensor, scale: Tensor, shift: Tensor, spans: list[Span], rotation: Tensor | None
) -> Tensor:
    """Compute `SelfAttention.forward` of modulate(x)."""

    def split_and_rotate(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = attention.split(*inputs)
        return (q, k, v) if rotation is None else (rotate(q, rotation), rotate(k, rotation), v)

    qkv = recomputed_linear(modulate, (x, scale, shift), attention.qkv.weight, attention.qkv_bias())
    inputs = (qkv,) if attention.log_scale is None else (qkv, attention.log_scale)
    heads = recomputed_attention(split_and_rotate, inputs, spans, attention.scale)
    return recomputed_linear(_side_by_side, (heads,), attention.proj.weight, attention.proj.bias)


def _cross_attention(
    attention: CrossAttention, norm: nn.LayerNorm, x: Tensor, text: TextKeysValues | PaddedText
) -> Tensor:
    """Compute `CrossAttention.forward` of norm(x)."""

    def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)

    query = attention.query
    q = recomputed_linear(normed, (x, norm.weight, norm.bias), query.weight, query.bias)
    return recomputed_linear(_same, (attention.attend(q, text),), attention.proj.weight, attention.proj.bias)


def _side_by_side(heads: Tensor) -> Tensor:
    """Concatenate the heads. (B, n, H, d) -> (B, n, C)."""
    return heads.flatten(2)


def _features(model: NextScaleTransformer, x: Tensor, condition: Any) -> Tensor:
    """Compute `NextScaleTransformer.features`, and recompute it in the backward pass."""
    plain = NextScaleTransformer.features
    if not torch.is_grad_enabled():
        return plain(model, x, condition)
    return checkpoint(plain, model, x, condition, use_reentrant=False, preserve_rng_state=False)


def _head(head: nn.Linear, x: Tensor) -> Tensor:
    """Compute the head with the faster library on this CPU."""
    if not torch.is_grad_enabled():
        return nn.Linear.forward(head, x)
    return recomputed_linear(_same, (x,), head.weight, head.bias)


def _same(x: Tensor) -> Tensor:
    return x
