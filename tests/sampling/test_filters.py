"""Top-k and top-p filters."""

from __future__ import annotations

import pytest
import torch

from nextscale.sampling.filters import top_k_filter, top_k_top_p_filter, top_p_filter

LOGITS = torch.randn(4, 6, 10, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("k", [0, 10, 11, 900])
def test_top_k_of_all_or_off_keeps_all(k):
    assert torch.equal(top_k_filter(LOGITS, k), LOGITS)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_top_k_keeps_the_k_largest(k):
    kept = top_k_filter(LOGITS, k).isfinite()
    assert (kept.sum(dim=-1) == k).all()
    assert (LOGITS.where(kept, torch.inf).amin(-1) > LOGITS.where(~kept, -torch.inf).amax(-1)).all()


def test_top_k_keeps_ties():
    assert top_k_filter(torch.tensor([1.0, 2, 2, 0]), 1).isfinite().tolist() == [False, True, True, False]


def test_top_p_off_keeps_all():
    assert torch.equal(top_p_filter(LOGITS, 0), LOGITS)


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.96, 1])
def test_top_p_keeps_the_fewest_that_reach_p(p):
    filtered = top_p_filter(LOGITS, p)
    kept, probabilities = filtered.isfinite(), LOGITS.double().softmax(dim=-1)
    assert torch.equal(filtered[kept], LOGITS[kept])
    reached = probabilities.where(kept, 0).sum(dim=-1)
    smallest = probabilities.where(kept, 1).amin(dim=-1)
    assert (reached >= p - 1e-6).all()
    assert ((reached - smallest < p + 1e-6) | (kept.sum(dim=-1) == 1)).all()


@pytest.mark.parametrize("p", [1e-9, 0.5, 1])
def test_top_p_never_drops_the_largest(p):
    for logits in (LOGITS, LOGITS * 1e4, torch.zeros(1, 10)):
        largest = top_p_filter(logits, p).amax(dim=-1)
        assert torch.equal(largest, logits.amax(dim=-1))


def test_filters_follow_each_other():
    kept = top_p_filter(top_k_filter(LOGITS, 3), 1).isfinite()
    assert torch.equal(kept, top_k_filter(LOGITS, 3).isfinite())


def by_definition(logits: torch.Tensor, k: int, p: float) -> torch.Tensor:
    """Top-k, then top-p by a stable sort of everything."""
    logits = top_k_filter(logits, k)
    if p == 0:
        return logits
    ascending, order = logits.sort(dim=-1, stable=True)
    dropped = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    dropped[..., -1] = False
    return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


@pytest.mark.parametrize("k", [0, 1, 3, 9, 10, 400, 900])
@pytest.mark.parametrize("p", [0, 1e-9, 0.5, 0.96, 1])
@pytest.mark.parametrize("levels", [None, 8, 0.5], ids=["distinct", "some ties", "many ties"])
@pytest.mark.parametrize("looks", [True, False], ids=["on the CPU", "as on a GPU"])
def test_both_filters_at_once_are_their_definition(monkeypatch, k, p, levels, looks):
    """Bit for bit, also where equal logits meet a border, and where nobody looks whether they do."""
    if not looks:
        monkeypatch.setattr("nextscale.sampling.filters.possible", lambda condition: True)
    for size in (10, 1000):
        logits = torch.randn(3, 5, size, generator=torch.Generator().manual_seed(size)) * 2
        if levels:
            logits = (logits * levels).round() / levels
        assert torch.equal(top_k_top_p_filter(logits, k, p), by_definition(logits, k, p))


def test_filters_leave_their_input_alone():
    before = LOGITS.clone()
    top_p_filter(top_k_filter(LOGITS, 3), 0.5)
    top_k_top_p_filter(LOGITS, 3, 0.5)
    assert torch.equal(LOGITS, before)


def test_logits_in_another_order_of_memory():
    turned = LOGITS.transpose(0, 1)
    for k, p in ((3, 0.5), (0, 0.5), (3, 0)):
        assert torch.equal(top_k_top_p_filter(turned, k, p), top_k_top_p_filter(LOGITS, k, p).transpose(0, 1))
