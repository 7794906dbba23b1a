"""Usage of codes and bits at each scale."""

from __future__ import annotations

import pytest
import torch

import nextscale as ns
from nextscale.tokenizer.usage import BitUsage, CodeUsage

SCHEDULE = ns.ScaleSchedule.square((1, 2))


def test_equal_use_of_all_codes():
    usage = CodeUsage(SCHEDULE, 8)
    for code in range(8):
        usage.add([torch.tensor([[code]]), torch.full((1, 4), code)])
    assert usage.used().tolist() == [1, 1]
    assert usage.perplexity().tolist() == pytest.approx([8, 8])
    assert usage.unused() == 0


def test_one_code_only():
    usage = CodeUsage(SCHEDULE, 8)
    usage.add([torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 4, dtype=torch.long)])
    assert usage.used().tolist() == [1 / 8, 1 / 8]
    assert usage.perplexity().tolist() == pytest.approx([1, 1])
    assert usage.unused() == 7


def test_scales_are_counted_apart():
    usage = CodeUsage(SCHEDULE, 8)
    usage.add([torch.tensor([[5]]), torch.tensor([[0, 0, 1, 1]])])
    assert usage.used().tolist() == [1 / 8, 2 / 8]
    assert usage.perplexity().tolist() == pytest.approx([1, 2])
    assert usage.unused() == 5


def test_batches_add_up():
    tokens = [torch.tensor([[1], [2]]), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])]
    at_once, one_by_one = CodeUsage(SCHEDULE, 8), CodeUsage(SCHEDULE, 8)
    at_once.add(tokens)
    for i in range(2):
        one_by_one.add([t[i : i + 1] for t in tokens])
    assert torch.equal(at_once.counts, one_by_one.counts)


def test_nothing_seen():
    usage = CodeUsage(SCHEDULE, 8)
    assert usage.used().tolist() == [0, 0]
    assert not usage.perplexity().isnan().any()


@pytest.mark.parametrize(
    ("codes", "tokens", "used", "collapsed"),
    [(100, 100_000, 9, True), (100, 100_000, 10, False), (1000, 20, 1, True), (1000, 20, 2, False)],
)
def test_the_codebook_has_collapsed_below_a_tenth_of_the_codes_of_random_tokens(codes, tokens, used, collapsed):
    """Random tokens use all of 100 codes, given enough tokens, and 19.8 of 1000 codes with 20 tokens."""
    usage = CodeUsage(ns.ScaleSchedule.square((2,)), codes)
    usage.counts[0, :used] = tokens // used
    assert usage.collapsed() == (f"collapse: {used} of {codes} codes used" if collapsed else "")


def test_ones_and_entropy_of_bits():
    usage = BitUsage(2, 2)
    usage.add([torch.tensor([[[True, True]], [[False, True]]]), torch.ones(2, 4, 2, dtype=torch.bool)])
    assert usage.ones().tolist() == [[0.5, 1], [1, 1]]
    assert usage.entropy().tolist() == pytest.approx([0.5, 0])
    assert usage.figures() == {"ones": [0.75, 1], "bit_entropy": usage.entropy().tolist()}
    assert usage.stuck() == 0  # too few to tell


def test_bits_of_some_scales():
    usage = BitUsage(3, 2)
    usage.add([torch.zeros(1, 4, 2, dtype=torch.bool)], scales=[1])
    assert usage.counts[:, -1].tolist() == [0, 4, 0]
    assert usage.ones().tolist() == [[0.5, 0.5], [0, 0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("ones", "words"),
    [
        ([[500, 2], [500, 500]], ""),
        ([[500, 0], [500, 1]], "1 of 2 bits are stuck"),
        ([[500, 1000], [500, 999]], "1 of 2 bits are stuck"),
        ([[1, 1], [500, 500]], "entropy of a bit 0.01 at scale 0"),
    ],
)
def test_collapsed_bits(ones, words):
    usage = BitUsage(2, 2)
    usage.counts[:, :2] = torch.tensor(ones)
    usage.counts[:, 2] = 1000
    assert (words in usage.collapsed()) if words else usage.collapsed() == ""
