"""Initialising codes from data, and restarting unused codes."""

from __future__ import annotations

from itertools import pairwise

import torch

from nextscale.training.codebook_init import kmeans, restart_codes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kmeans_finds_clusters():
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    features = (middles.repeat(200, 1) + 0.1 * torch.randn(600, 2, generator=seeded()))[
        torch.randperm(600, generator=seeded(1))
    ]
    best = min(
        (kmeans(features[:192], 3, 20, seeded(seed)) for seed in range(5)),
        key=lambda centres: torch.cdist(middles, centres).amin(1).sum().item(),
    )
    assert torch.cdist(middles, best).amin(1).max() < 0.1


def test_each_round_brings_features_nearer_to_their_centres():
    features = torch.randn(500, 4, generator=seeded())
    errors = [torch.cdist(features, kmeans(features, 8, n, seeded())).amin(1).square().mean() for n in range(6)]
    assert all(after <= before + 1e-6 for before, after in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


def test_kmeans_without_rounds_picks_features():
    features = torch.randn(100, 4, generator=seeded())
    centres = kmeans(features, 10, 0, seeded())
    assert all((features == centre).all(1).any() for centre in centres)
    assert len(centres.unique(dim=0)) == 10


def test_kmeans_with_fewer_features_than_codes():
    features = torch.randn(3, 4, generator=seeded())
    centres = kmeans(features, 10, 5, seeded())
    assert centres.shape == (10, 4)
    for centre in centres:
        assert torch.isclose(features, centre).all(1).any()


def test_kmeans_depends_on_the_generator_alone():
    features = torch.randn(300, 4, generator=seeded())
    first, again, other = (kmeans(features, 4, 3, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_restart_replaces_dead_codes_only():
    codes, features = torch.zeros(6, 2), torch.arange(1.0, 9).view(4, 2)
    dead = torch.tensor([True, False, False, True, True, False])
    restart_codes(codes, dead, features, seeded())
    assert not codes[~dead].any()
    for code in codes[dead]:
        assert (features == code).all(1).any()
