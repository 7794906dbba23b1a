"""Load the reference implementation of Infinity on a CPU, without the parts that need a GPU.

Replaced: flash attention by PyTorch's ``scaled_dot_product_attention``, the compiled layer norm by the same function
without a compiler, and packages that sampling does not use by empty modules. The reference's cross-attention rounds to
bfloat16; here it computes in float32, like everything else.
"""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from reference import quiet
from torch import Tensor, nn

import nextscale as ns
from nextscale.scales.aspect import TEMPLATES

UNUSED = ("timm", "timm.loss", "timm.models", "timm.models.layers", "imageio", "torchvision", "pytz", "flash_attn")
"""Packages that the reference imports, but sampling does not use."""


class DropPath(nn.Identity):
    """timm's, when sampling."""

    def __init__(self, *_: Any, **__: Any):
        super().__init__()


def flash_varlen(
    q: Tensor, kv: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, softmax_scale: float, **_: Any
) -> Tensor:
    """Compute ``flash_attn_varlen_kvpacked_func``: queries (rows, H, d), keys and values (rows, 2, H, d)."""
    parts = []
    starts, texts = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    for i in range(len(texts) - 1):
        k, v = kv[texts[i] : texts[i + 1]].permute(1, 2, 0, 3)
        queries = q[starts[i] : starts[i + 1]].transpose(0, 1)
        parts.append(F.scaled_dot_product_attention(queries, k, v, scale=softmax_scale).transpose(0, 1))
    return torch.cat(parts)


def stub_modules() -> None:
    """Install empty modules for `UNUSED`."""
    for name in UNUSED:
        sys.modules[name] = types.ModuleType(name)
    layers: Any = sys.modules["timm.models.layers"]
    layers.DropPath, layers.drop_path = DropPath, None
    loss: Any = sys.modules["timm.loss"]
    loss.SoftTargetCrossEntropy = type("SoftTargetCrossEntropy", (nn.Module,), {})
    models: Any = sys.modules["timm.models"]
    models.register_model = lambda function: function
    flash: Any = sys.modules["flash_attn"]
    flash.flash_attn_func, flash.flash_attn_varlen_kvpacked_func = (lambda q: q), flash_varlen
    vision: Any = sys.modules["torchvision"]
    vision.transforms = None


def load_infinity_reference(path: Path, tokenizer: ns.ImageTokenizer, model: Any) -> tuple[Any, Any]:
    """Return the reference's tokenizer and transformer with our weights."""
    stub_modules()
    sys.path.insert(0, str(path))
    warnings.filterwarnings("ignore", category=FutureWarning)
    c = model.config
    states = ns.to_official(tokenizer, model)
    with quiet(), patch("torch.compile", lambda *_, **__: lambda function: function):
        import infinity.models.basic as basic  # pyright: ignore[reportMissingImports]  # part of the reference
        from infinity.models.bsq_vae.vae import vae_model  # pyright: ignore[reportMissingImports]
        from infinity.models.infinity import Infinity  # pyright: ignore[reportMissingImports]

        d = tokenizer.config.code_dim
        vae = vae_model({"vae": dict(states[0])}, "dynamic", d, 2**d)
        transformer = Infinity(
            vae_local=vae,
            text_channels=c.text_width,
            text_maxlen=c.text_rows,
            shared_aln=True,
            fused_norm=True,
            use_bit_label=1,
            add_lvl_embeding_only_first_block=1,
            rope2d_each_sa_layer=1,
            rope2d_normalized_by_hw=2,
            pn="1M",
            depth=c.depth,
            embed_dim=c.width,
            num_heads=c.heads,
            block_chunks=c.chunks,
            cond_drop_rate=0,
            drop_path_rate=0,
        )
    missing, unexpected = transformer.load_state_dict(dict(states[1]))
    assert not missing and not unexpected, (missing, unexpected)
    in_float32(basic)
    return vae.eval().requires_grad_(False), transformer.eval().requires_grad_(False)


def in_float32(basic: Any) -> None:
    """Let cross-attention call flash attention in the precision of its inputs, as it does for other types."""
    plain = basic.flash_attn_varlen_kvpacked_func

    def forward(self: Any, q: Tensor, ca_kv: tuple[Tensor, Tensor, int]) -> Tensor:
        text, cu_seqlens_k, _ = ca_kv
        bias = torch.cat((self.zero_k_bias, self.v_bias))
        kv = F.linear(text, self.mat_kv.weight, bias).view(len(text), 2, self.num_heads, self.head_dim)
        count = len(cu_seqlens_k) - 1
        if self.for_attn_pool:
            batch, rows, queries = count, 1, self.mat_q.repeat(count, 1, 1)
        else:
            (batch, rows), queries = q.shape[:2], self.mat_q(q).view(-1, self.num_heads, self.head_dim)
        cu_seqlens_q = torch.arange(0, rows * (batch + 1), rows, dtype=torch.int32)
        attended = plain(queries, kv, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, softmax_scale=self.scale)
        return self.proj_drop(self.proj(attended.reshape(batch, rows, -1)))

    basic.CrossAttention.forward = forward


def sample_infinity_reference(
    vae: Any, transformer: Any, text: ns.TextFeatures, schedule: ns.ScaleSchedule, seed: int, settings: dict[str, Any]
) -> Tensor:
    """Return the image of one prompt, (1, H, W, 3) uint8 in the order RGB."""
    lengths = torch.tensor([0, *text.lengths], dtype=torch.int32).cumsum(0).to(torch.int32)
    assert schedule.template in TEMPLATES, "the reference knows its own templates only"
    sizes = [(1, h, w) for h, w in schedule.sizes]
    with quiet(), torch.no_grad():
        _, _, images = transformer.autoregressive_infer_cfg(
            vae=vae,
            scale_schedule=sizes,
            label_B_or_BLT=(text.features.clone(), list(text.lengths), lengths, max(text.lengths)),
            B=len(text),
            g_seed=seed,
            cfg_list=[settings["cfg"]] * len(sizes),
            tau_list=[settings["temperature"]] * len(sizes),
            top_k=settings["top_k"],
            top_p=settings["top_p"],
            returns_vemb=1,
            cfg_insertion_layer=[0],
            vae_type=1,  # anything but 0 means bits
            ret_img=True,
            inference_mode=True,
        )
    return images.flip(dims=(3,))
