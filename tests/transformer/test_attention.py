"""Attention agrees with a direct implementation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from nextscale.acceleration.cpu_attention import attend
from nextscale.scales.schedule import Visit
from nextscale.transformer.attention import SelfAttention
from nextscale.transformer.cache import KVCache, plan_cache
from nextscale.transformer.visibility import Span


@pytest.fixture(params=[True, False], ids=["cosine", "plain"])
def attention(request) -> SelfAttention:
    torch.manual_seed(0)
    attention = SelfAttention(32, heads=4, l2_norm=request.param).requires_grad_(False)
    for p in attention.parameters():
        p += 0.3 * torch.randn_like(p)
    return attention


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))


def written_out(attention: SelfAttention, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (x @ w.T for w in attention.qkv.weight.chunk(3))
    q, k, v = (t.unflatten(2, (4, 8)).transpose(1, 2) for t in (q + attention.q_bias, k, v + attention.v_bias))
    if attention.log_scale is None:
        scores = q @ k.mT / (4 * math.sqrt(8))
    else:
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * attention.log_scale.exp()
    return attention.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def test_formula(attention, x):
    torch.testing.assert_close(attention(x), written_out(attention, x), atol=1e-5, rtol=0)


def test_the_past_counts(attention, x):
    visits = Visit(0, (1, 1, 3), ()), Visit(1, (1, 2, 2), (0,))
    cache = KVCache(plan_cache(visits, (3, 4)), 1, 2, 4, 8, torch.device("cpu"), torch.float32)
    parts = [attention(part, past=cache.layer(0, k)) for k, part in enumerate(x.split((3, 4), dim=1))]
    torch.testing.assert_close(parts[0], attention(x[:, :3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(parts[1], attention(x)[:, 3:], atol=1e-5, rtol=0)


def test_later_tokens_are_hidden(attention, x):
    spans = [Span(slice(0, 5), slice(0, 5)), Span(slice(5, 7), slice(0, 7))]
    changed = torch.cat((x[:, :5], x[:, 5:] + 1), dim=1)
    assert torch.equal(attention(changed, spans)[:, :5], attention(x, spans)[:, :5])


def test_spans_equal_a_mask_over_all_pairs(attention, x):
    mask = torch.tensor([[True] * 5 + [False] * 2] * 5 + [[True] * 7] * 2)
    spans = [Span(slice(0, 5), slice(0, 5)), Span(slice(5, 7), slice(0, 7))]
    masked = attention(x, [Span(slice(0, 7), slice(0, 7), mask)])
    torch.testing.assert_close(attention(x, spans), masked, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_in_bfloat16_scores_are_float32_and_heads_do_not_depend_on_others(scale, monkeypatch):
    monkeypatch.setattr("nextscale.acceleration.cpu_attention.SCORES", 3 * 5 * 11)  # three heads at a time
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 16, generator=generator) for n in (5, 11, 11))
    q, k, v = 30 * F.normalize(q, dim=-1), k.bfloat16(), v.bfloat16()
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=scale)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        drawn = attend(q, k, v, scale)
        assert torch.equal(attend(q[1:], k[1:], v[1:], scale), drawn[1:])
    assert drawn.dtype == torch.bfloat16
    torch.testing.assert_close(drawn.double(), exact, atol=0.02, rtol=0.01)
