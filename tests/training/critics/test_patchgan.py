"""PatchGAN: scores of patches, and weights with spectral norm 1."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import refused
from tiny_runs import TOKENIZER
from torch import Tensor, nn

import nextscale as ns
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.critics.critic import refresh_norms
from nextscale.training.critics.make import make_critic
from nextscale.training.critics.patchgan import PatchGAN


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(h: int = 16, w: int = 16, seed: int = 1) -> Tensor:
    return torch.rand(2, 3, h, w, generator=seeded(seed)) * 2 - 1


@pytest.fixture
def critic() -> PatchGAN:
    return PatchGAN(channels=8, layers=2).init_weights(seeded())


def norms(critic: nn.Module) -> list[float]:
    """The largest singular value of every layer."""
    layers = [module for module in critic.modules() if isinstance(module, nn.Conv2d)]
    return [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("size", [(24, 24), (32, 48), (40, 25)])
def test_a_score_for_each_patch(layers, size):
    logits, features = PatchGAN(channels=4, layers=layers)(random_images(*size))
    assert [tuple(x.shape) for x in logits] == [(2, 1, *(side // 2**layers - 2 for side in size))]
    assert len(features) == layers + 1
    assert [x.shape[1] for x in features] == [4 * 2**i for i in range(layers + 1)]
    assert [tuple(x.shape[2:]) for x in features[:layers]] == [
        tuple(side // 2**i for side in size) for i in range(1, layers + 1)
    ]


def test_no_layer_is_wider_than_8_times_the_first():
    features = PatchGAN(channels=2, layers=5)(random_images(96, 96)).features
    assert [x.shape[1] for x in features] == [2, 4, 8, 16, 16, 16]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_images(layers):
    side = 3 * 2**layers
    assert PatchGAN(4, layers)(random_images(side, side)).logits[0].shape == (2, 1, 1, 1)
    recipe = AdversarialRecipe(layers=layers)
    for sides, fits in (((side, side), True), ((side, 2 * side), True), ((2 * side, side - 1), False)):
        model = replace(TOKENIZER.model, schedule=ns.ScaleSchedule((sides,)), multipliers=(1,))
        if fits:
            replace(TOKENIZER, model=model, adversarial=recipe)
        else:
            with refused(f"at least {side} pixels", f"not {side - 1}"):
                replace(TOKENIZER, model=model, adversarial=recipe)


def test_a_score_sees_its_patch_alone(critic):
    images = random_images(48, 48).requires_grad_()
    scores = critic(images).logits[0]
    scores[0, 0, 5, 5].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().amax(0) > 0
    rows = seen.any(1).nonzero()
    assert (rows.max() - rows.min() + 1).item() == 34 and not images.grad[1].any()


def test_fresh_weights_have_spectral_norm_1(critic):
    assert norms(critic) == pytest.approx([1] * 4, abs=0.1)


def test_refreshing_follows_the_weights(critic):
    with torch.no_grad():
        for i, p in enumerate(critic.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=seeded(i)))
    assert max(norms(critic)) > 2
    for _ in range(100):
        refresh_norms(critic)
    assert norms(critic) == pytest.approx([1] * 4, abs=1e-2)


def test_calling_the_critic_refreshes_nothing(critic):
    before, first = deepcopy(critic.state_dict()), critic(random_images()).logits[0]
    for _ in range(3):
        critic(random_images(seed=2))
    assert torch.equal(critic(random_images()).logits[0], first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in critic.state_dict().items())
    refresh_norms(critic)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in critic.state_dict().items())


def test_each_image_by_itself(critic):
    images = random_images()
    alone = torch.cat([critic(image).logits[0] for image in images.split(1)])
    torch.testing.assert_close(critic(images).logits[0], alone)


def test_written_out(critic):
    x, images = random_images(), random_images()
    for i, layer in enumerate(critic.convolutions):
        x = F.leaky_relu(F.conv2d(x, layer.weight, layer.bias, stride=2 if i < 2 else 1, padding=1), 0.2)
    expected = F.conv2d(x, critic.score.weight, critic.score.bias, padding=1)
    torch.testing.assert_close(critic(images).logits[0], expected)


def test_fresh_weights_depend_on_the_generator_alone():
    states = []
    for global_seed, seed in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(global_seed)
        states.append(make_critic(AdversarialRecipe(channels=8, layers=2), seeded(seed)).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


def test_the_state_says_all(critic):
    other = PatchGAN(channels=8, layers=2)
    other.load_state_dict(critic.state_dict())
    assert torch.equal(other.eval()(random_images()).logits[0], critic(random_images()).logits[0])
