"""The loss of tokens of any shape."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nextscale.transformer.token_loss import token_loss_in_parts, token_losses


def draw(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def test_bits_are_tokens_of_two_choices():
    """The mean binary cross-entropy of d bits (Infinity, arXiv 2412.04431, section 3.2)."""
    logits, targets = draw(2, 5, 7, 2), (draw(2, 5, 7) > 0).long()
    loss, correct = token_losses(logits, targets)
    odds = logits[..., 1] - logits[..., 0]
    expected = F.binary_cross_entropy_with_logits(odds, targets.float(), reduction="none").mean(2)
    torch.testing.assert_close(loss, expected)
    assert torch.equal(correct, (odds > 0) == (targets == 1))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_parts_make_no_difference(monkeypatch, shape):
    monkeypatch.setattr("nextscale.transformer.token_loss.ROWS", 4)
    features, targets = draw(2, 5, 8).requires_grad_(), torch.ones(2, 5, *shape, dtype=torch.int64)
    weight = draw(8, torch.Size(shape).numel() * 4)

    def readout(x: torch.Tensor) -> torch.Tensor:
        return (x @ weight).unflatten(-1, (*shape, 4))

    whole, parts = token_losses(readout(features), targets), token_loss_in_parts(readout, features, targets)
    torch.testing.assert_close(parts.loss, whole.loss)
    assert torch.equal(parts.correct, whole.correct) and parts.loss.shape == (2, 5)
    ours, theirs = (torch.autograd.grad(each.loss.square().sum(), features)[0] for each in (parts, whole))
    torch.testing.assert_close(ours, theirs)
