"""What is computed again in the backward pass gives the gradients that PyTorch's own way gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import CLASSES, CODES, DIM, SCHEDULES, make_var

import nextscale as ns
from nextscale.acceleration.recompute import Linear, later
from nextscale.transformer.visibility import attend_spans, make_spans

CPU = torch.device("cpu")
LARGE = ns.ScaleSchedule(((1, 1), (2, 3), (5, 5), (11, 11), (13, 13)))
"""Two spans of one scale each, after one of several."""


def gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def check(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("intel", [False, True])
def test_a_linear_layer(monkeypatch, intel):
    monkeypatch.setattr("nextscale.acceleration.recompute.is_intel", lambda: intel)
    torch.manual_seed(0)
    layer, x, scale = Linear(8, 5), torch.randn(2, 3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    direction = torch.randn(2, 3, 5)
    leaves = (x, scale, layer.weight, layer.bias)
    lazy = layer(later(lambda x, scale: F.gelu(x * scale), x, scale))
    plain = F.linear(F.gelu(x * scale), layer.weight, layer.bias)
    torch.testing.assert_close(lazy, plain)
    check(gradients((lazy * direction).sum(), *leaves), gradients((plain * direction).sum(), *leaves))


def test_what_does_not_learn_gets_no_gradient():
    layer = Linear(4, 4).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    layer(later(torch.tanh, x)).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None
    assert not layer(later(torch.tanh, x.detach())).requires_grad


def test_without_gradients_nothing_is_put_off():
    with torch.no_grad():
        assert torch.equal(later(torch.tanh, torch.ones(1)), torch.tanh(torch.ones(1)))


@pytest.mark.parametrize("schedule", [SCHEDULES["square"], LARGE], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_attention_is_that_behind_a_mask(schedule, scale):
    torch.manual_seed(0)
    length, spans = schedule.num_tokens, make_spans(schedule, CPU)
    assert [span.start for span in spans[1:]] == [span.end for span in spans[:-1]] and spans[-1].end == length
    q, k, v = (torch.randn(2, 3, length, 4, requires_grad=True) for _ in range(3))
    levels = torch.tensor(schedule.level_ids)
    mask = levels[:, None] >= levels[None, :]
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)
    lazy = attend_spans(later(lambda *qkv: qkv, q, k, v), spans, scale)
    plain = attend_spans((q, k, v), spans, scale)
    direction = torch.randn_like(masked)
    expected = gradients((masked * direction).sum(), q, k, v)
    for result in (lazy, plain):
        torch.testing.assert_close(result, masked, atol=1e-5, rtol=1e-4)
        check(gradients((result * direction).sum(), q, k, v), expected)


def test_guesses_are_those_of_the_logits(monkeypatch):
    schedule = SCHEDULES["square"]
    monkeypatch.setattr("nextscale.transformer.token_loss.ROWS", 14)
    model, labels = make_var(schedule), torch.tensor([0, CLASSES])
    inputs = torch.randn(2, schedule.num_tokens - schedule.tokens_per_scale[0], DIM)
    targets = torch.randint(CODES, (2, schedule.num_tokens))
    weights = torch.rand(2, schedule.num_tokens)
    leaves = (model.head.weight, model.head_adaln.weight, model.get_parameter("blocks.0.mlp.up.weight"))
    loss, right = model(labels, inputs, None, targets)
    logits = model(labels, inputs)
    expected = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    torch.testing.assert_close(loss, expected)
    assert torch.equal(right, logits.argmax(-1) == targets)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), leaves) for each in (loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
