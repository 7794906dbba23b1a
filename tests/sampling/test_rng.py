"""One random generator for the call, or one for each image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused

from nextscale.sampling.rng import RandomStreams

CPU = torch.device("cpu")
PROBABILITIES = torch.rand(8, 20, 50, generator=torch.Generator().manual_seed(0))


def everything(seed, batch: int, of: slice = slice(None)) -> tuple[torch.Tensor, ...]:
    """(labels, tokens, noise, tokens) of a batch."""
    streams, probabilities = RandomStreams(seed, batch, CPU), PROBABILITIES[of]
    draws = streams.labels(1000), streams.categorical(probabilities)
    return *draws, streams.gumbel(probabilities), streams.categorical(probabilities)


def test_the_same_seed_draws_the_same():
    for first, second in zip(everything(5, 8), everything(5, 8), strict=True):
        assert torch.equal(first, second)


def test_another_seed_draws_something_else():
    for first, second in zip(everything(5, 8), everything(6, 8), strict=True):
        assert not torch.equal(first, second)


def test_seeds_of_images_do_not_depend_on_the_batch():
    seeds = [3, 1, 4, 1, 5, 9, 2, 6]
    batch = everything(seeds, 8)
    for i in range(8):
        for alone, together in zip(everything(seeds[i : i + 1], 1, slice(i, i + 1)), batch, strict=True):
            assert torch.equal(alone, together[i : i + 1])


def test_one_seed_for_the_call_is_that_image_s_seed():
    for call, image in zip(everything(7, 1, slice(1)), everything([7], 1, slice(1)), strict=True):
        assert torch.equal(call, image)


def test_tokens_follow_their_probabilities():
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0]).expand(4, 10_000, 4)
    tokens = RandomStreams(0, 4, CPU).categorical(probabilities)
    share = tokens.flatten().bincount(minlength=4) / tokens.numel()
    torch.testing.assert_close(share, probabilities[0, 0], atol=0.01, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_those_of_multinomial(seed):
    probabilities = torch.rand(2, 300, 500, generator=torch.Generator().manual_seed(seed)).pow(9)
    probabilities[..., ::3] = 0
    generator = torch.Generator().manual_seed(seed)
    expected = torch.multinomial(probabilities.flatten(0, 1), 1, replacement=True, generator=generator)
    streams = RandomStreams(seed, 2, CPU)
    assert torch.equal(streams.categorical(probabilities), expected.view(2, 300))
    noise = torch.empty(7).exponential_(generator=generator)  # both went on equally far
    assert torch.equal(streams.gumbel(torch.empty(2, 7))[0], noise.log().neg())


def test_gumbel_noise_has_its_mean():
    noise = RandomStreams(0, 4, CPU).gumbel(torch.zeros(4, 10_000))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.03)


def test_labels_are_all_equally_likely():
    for seed in (0, range(6000)):
        counts = RandomStreams(seed, 6000, CPU).labels(3).bincount(minlength=3)
        assert counts.min() > 1850 and len(counts) == 3


def test_integers_of_numpy_are_seeds():
    assert torch.equal(everything(np.int64(5), 8)[1], everything(5, 8)[1])


@pytest.mark.parametrize("seed", [[1, 2], [], range(5)])
def test_wrong_number_of_seeds(seed):
    with refused("each of the 4 images", f"got {len(seed)}"):
        RandomStreams(seed, 4, CPU)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_that_are_too_large(seed):
    with refused(seed, "64 bits"):
        RandomStreams(seed, 1, CPU)


@pytest.mark.parametrize("seed", [1.5, "a", None])
def test_what_is_no_seed(seed):
    with refused("a seed is an integer"):
        RandomStreams([seed], 1, CPU)


@pytest.mark.parametrize("seed", [1.5, None])
def test_what_is_neither_a_seed_nor_several(seed):
    with refused("seed"):
        RandomStreams(seed, 1, CPU)


def test_tokens_of_several_entries_are_sampled_entry_by_entry():
    """Bits (B, n, d) with two choices need no other sampler: the last axis is the choices."""
    probabilities = torch.tensor([0.25, 0.75]).expand(2, 50, 40, 2)
    tokens = RandomStreams([1, 2], 2, torch.device("cpu")).categorical(probabilities)
    assert tokens.shape == (2, 50, 40)
    assert tokens.double().mean().item() == pytest.approx(0.75, abs=0.03)
    alone = RandomStreams([2], 1, torch.device("cpu")).categorical(probabilities[1:])
    assert torch.equal(tokens[1:], alone)
