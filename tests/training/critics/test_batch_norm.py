"""Batch normalisation over all processes, and the PatchGAN that has it."""

from __future__ import annotations

import pytest
import torch
from tiny import refused
from torch import nn

from nextscale.training.adversarial import AdversarialRecipe, score_excess
from nextscale.training.critics.batch_norm import BatchNorm
from nextscale.training.critics.critic import refresh_norms
from nextscale.training.critics.make import make_critic
from nextscale.training.critics.patchgan import PatchGAN


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_pytorchs_in_training():
    ours, theirs = BatchNorm(5), nn.BatchNorm2d(5)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = torch.randn(3, 5, 4, 6, generator=seeded()) * 3 + 2
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(each) for norm, each in zip((ours, theirs), inputs, strict=True)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    probe = torch.randn(x.shape, generator=seeded(1))
    for output in outputs:
        (output * probe).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
    ours.eval()
    torch.testing.assert_close(ours(x), outputs[0].detach(), atol=0, rtol=0)


def official() -> nn.Sequential:
    """The discriminator as its description says."""
    widths = (3, 128, 256, 512, 1024)
    layers: list[nn.Module] = []
    for i, stride in enumerate((2, 2, 2, 1)):
        layers.append(nn.Conv2d(widths[i], widths[i + 1], 4, stride, 1, bias=i == 0))
        layers += [nn.BatchNorm2d(widths[i + 1])] if i else []
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv2d(1024, 1, 4, 1, 1))


def test_the_official_critic():
    ours = PatchGAN(128, 3, "batch").init_weights(seeded())
    theirs = official()
    with torch.no_grad():
        by_shape = [p for p in ours.parameters() if p.ndim == 4]
        for mine, other in zip(by_shape, [p for p in theirs.parameters() if p.ndim == 4], strict=True):
            other.copy_(mine)
        for other in theirs.modules():
            if isinstance(other, nn.Conv2d) and other.bias is not None:
                other.bias.zero_()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert all(abs(p.std().item() - 0.02) < 0.002 for p in by_shape)
    images = torch.rand(2, 3, 32, 32, generator=seeded(1)) * 2 - 1
    torch.testing.assert_close(ours(images).logits[0], theirs(images), atol=1e-5, rtol=1e-4)


def test_parts_of_a_batch_are_normalised_separately():
    critic = make_critic(AdversarialRecipe(channels=8, layers=2, norm="batch"), seeded())
    a, b = (torch.rand(2, 3, 16, 16, generator=seeded(i)) * 2 - 1 for i in (1, 2))
    both = critic(torch.cat((a, b)), 2).logits[0]
    torch.testing.assert_close(both, torch.cat((critic(a).logits[0], critic(b).logits[0])), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(critic(torch.cat((a, b))).logits[0], both, atol=1e-3)
    before = critic(a).logits[0]
    refresh_norms(critic)
    assert torch.equal(critic(a).logits[0], before)


@pytest.mark.parametrize(("real", "fake", "expected"), [(0.05, -0.1, 0.0), (1.1, 0.0, 1.0), (-1.1, 0.6, 1.25)])
def test_scores_beyond_the_margin_cost(real, fake, expected):
    heads = [[torch.full((2, 1, 3, 3), value)] for value in (real, fake)]
    assert score_excess(*heads).item() == pytest.approx(expected, abs=1e-6)


def test_norms_that_do_not_exist():
    with refused("norm", "spectral or batch", "'layer'"):
        AdversarialRecipe(norm="layer")  # type: ignore[arg-type]
    with refused("dino", "spectral", "batch"):
        AdversarialRecipe(critic="dino", dino_weights="a.pth", norm="batch")
