"""The state of AdamW is complete from the start, and the loss scale follows the official rules."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny import SCHEDULES, make_var
from tiny_runs import TRANSFORMER
from torch import Tensor, nn

from nextscale.training.optimizer import LossScaler, make_optimizer, optimizer_tensors, set_step

CPU = torch.device("cpu")
RECIPE = replace(TRANSFORMER, steps=100)


def make_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    set_step(optimizer, RECIPE, step)
    optimizer.zero_grad()
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    model(inputs).square().mean().backward()
    optimizer.step()


def test_all_state_is_there_from_the_start():
    model = make_model()
    optimizer = make_optimizer(model, RECIPE)
    names = set(optimizer_tensors(optimizer))
    assert len(names) == 3 * 4 and not any(value.any() for value in optimizer_tensors(optimizer).values())
    take_step(model, optimizer, 0)
    assert set(optimizer_tensors(optimizer)) == names


def test_filling_the_state_puts_the_optimizer_where_another_was():
    model = make_model()
    optimizer = make_optimizer(model, RECIPE)
    for step in range(3):
        take_step(model, optimizer, step)
    other = deepcopy(model)
    fresh = make_optimizer(other, RECIPE)
    for name, tensor in optimizer_tensors(fresh).items():
        tensor.copy_(optimizer_tensors(optimizer)[name])
    for step in range(3, 6):
        take_step(model, optimizer, step)
        take_step(other, fresh, step)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_ratio_and_betas_are_those_of_the_network():
    optimizer = make_optimizer(make_model(), RECIPE, ratio=0.5, betas=(0.1, 0.2))
    for step in (0, 50, 99):
        rate = set_step(optimizer, RECIPE, step)
        assert {group["lr"] for group in optimizer.param_groups} == {rate / 2}
    assert all(group["betas"] == (0.1, 0.2) for group in optimizer.param_groups)
    assert all(group["betas"] == RECIPE.betas for group in make_optimizer(make_model(), RECIPE).param_groups)


def test_frozen_parameters_are_in_no_group():
    model = deepcopy(make_var(SCHEDULES["square"]))
    model.blocks.requires_grad_(False)
    grouped = {id(p) for group in make_optimizer(model, RECIPE).param_groups for p in group["params"]}
    assert grouped == {id(p) for p in model.parameters()} - {id(p) for p in model.blocks.parameters()}


class Scaled:
    """One weight, its gradient given, and the scaler."""

    def __init__(self, enabled: bool = True):
        self.weight = nn.Parameter(torch.ones(1))
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.scaler = LossScaler(CPU, enabled)

    def step(self, gradient: float) -> Tensor:
        """One step; returns the gradient that the optimizer saw."""
        self.optimizer.zero_grad()
        self.scaler.scale(self.weight * gradient).sum().backward()
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        assert self.weight.grad is not None
        return self.weight.grad


def test_the_scale_doubles_after_1000_good_steps_and_no_sooner():
    scaled = Scaled()
    for count in range(1, 2002):
        scaled.step(0.0)
        assert scaled.scaler.factor.tolist() == [2.0 ** (11 + count // 1000), count % 1000]


def test_the_scale_stays_at_32768(monkeypatch):
    monkeypatch.setattr(LossScaler, "GROWTH_INTERVAL", 2)
    scaled, seen = Scaled(), []
    for _ in range(14):
        scaled.step(0.0)
        seen.append(scaled.scaler.factor[0].item())
    assert max(seen) == 32768 == 2**15
    assert seen[7:] == [32768] * 7 and seen[6] == 16384


def test_an_overflow_halves_the_scale_and_leaves_the_step_out():
    scaled = Scaled()
    for _ in range(3):
        scaled.step(0.25)
    assert scaled.weight.item() == 0.25
    for count, gradient in enumerate((float("inf"), float("nan")), start=1):
        scaled.step(gradient)
        assert scaled.weight.item() == 0.25
        assert scaled.scaler.factor.tolist() == [2.0 ** (11 - count), 0]
    scaled.step(0.25)
    assert scaled.weight.item() == 0 and scaled.scaler.factor.tolist() == [2.0**9, 1]


def test_the_optimizer_sees_the_gradient_without_the_scale():
    assert Scaled().step(0.3).item() == pytest.approx(0.3)


def test_a_scaler_goes_on_where_another_stopped(monkeypatch):
    monkeypatch.setattr(LossScaler, "GROWTH_INTERVAL", 4)
    gradients = [0, 0, 0, 0, 0, 0, float("inf"), 0, 0, 0, 0, 0]
    one, factors = Scaled(), []
    for gradient in gradients:
        one.step(gradient)
        factors.append(one.scaler.factor.tolist())
    for stop in range(len(gradients)):
        other = Scaled()
        if stop:
            other.scaler.factor.copy_(torch.tensor(factors[stop - 1]))
            other.scaler.restore()
        for gradient in gradients[stop:]:
            other.step(gradient)
        assert other.scaler.factor.tolist() == factors[-1]


def test_without_float16_nothing_is_scaled():
    scaled = Scaled(enabled=False)
    before = scaled.scaler.factor.clone()
    loss = torch.tensor(0.3)
    assert scaled.scaler.scale(loss) is loss
    scaled.step(0.25)
    scaled.scaler.restore()
    assert scaled.weight.item() == 0.75 and torch.equal(scaled.scaler.factor, before)
