"""A custom task: a model and a loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import SCHEDULES, make_tokenizer
from tiny_runs import SIZE, TOKENIZER
from torch import nn

import nextscale as ns
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.data.splits import open_splits
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.critics.patchgan import PatchGAN
from nextscale.training.loop import Intervals, step_generator, train, training_step
from nextscale.training.optimizer import set_step
from nextscale.training.parallel import Execution
from nextscale.training.run import Run
from nextscale.training.state import make_state
from nextscale.training.task import options_of
from nextscale.training.tokenizer_task import TokenizerTask

CPU = torch.device("cpu")


class LargeErrorsTask:
    """Train a tokenizer to minimise the fourth power of the error instead of its square."""

    def __init__(self, model: ns.ImageTokenizer):
        self.networks: dict[str, nn.Module] = {"model": model}

    def losses(self, batch, step, generator):
        result = self.networks["model"](batch.images, 0.25)
        error = (result.images - batch.images).pow(4).mean()
        return {"model": error + result.vq_loss}, {"error": error}


def test_a_custom_loss_needs_two_members(images, tmp_path):
    data, val = open_splits(images, SIZE, seed=0)
    recipe = replace(TOKENIZER, steps=30, learning_rate=3e-3, precision="float32")
    task = LargeErrorsTask(ns.ImageTokenizer(recipe.model).init_weights(torch.Generator().manual_seed(0)))
    run = Run(tmp_path / "run", recipe, {"task": "large errors"})
    train(task, data, val, recipe, run, Intervals(log_every=1), CPU)
    lines = (tmp_path / "run" / "log.jsonl").read_text()
    assert lines.count('"error"') == 30 and "val_" not in lines
    assert ns.ImageTokenizer.from_pretrained(tmp_path / "run").config == recipe.model


def test_options_of_a_task_are_its_own_or_defaults():
    model = make_tokenizer(SCHEDULES["square"])
    options = options_of(LargeErrorsTask(model))
    assert options.config == model.config and options.validate is None
    assert options.tensors() == options.report() == options.optimizer_options("model") == {}
    full = TokenizerTask(ns.ImageTokenizer(TOKENIZER.model), TOKENIZER)
    ours = options_of(full)
    assert ours.units == full.units and ours.tensors().keys() == {"hits", "scores"} and ours.validate == full.validate


def a_batch(count: int = 4) -> Batch:
    images = torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(Pixels(images), torch.zeros(count, dtype=torch.int64), (), BatchSlice(0, count, count))


def test_every_network_with_a_loss_learns_and_no_other():
    class Three(LargeErrorsTask):
        def __init__(self):
            super().__init__(ns.ImageTokenizer(TOKENIZER.model))
            self.networks |= {"second": nn.Linear(3, 1), "idle": nn.Linear(3, 1)}

        def losses(self, batch, step, generator):
            losses, metrics = super().losses(batch, step, generator)
            losses["second"] = F.mse_loss(self.networks["second"](batch.images.mean((2, 3))), torch.ones(4, 1))
            return losses, metrics

    recipe = replace(TOKENIZER, precision="float32")
    state = make_state(Three(), recipe, Execution(), CPU)
    before = {name: [p.clone() for p in net.parameters()] for name, net in state.networks.items()}
    metrics = training_step(state, [a_batch()], recipe, 0)
    moved = {
        name: any(not torch.equal(p, q) for p, q in zip(net.parameters(), before[name], strict=True))
        for name, net in state.networks.items()
    }
    assert moved == {"model": True, "second": True, "idle": False}
    assert {"loss", "second_loss", "grad_norm", "second_grad_norm"} <= metrics.keys() and "idle_loss" not in metrics


def test_the_critic_learns():
    """Its loss falls on a batch that the tokenizer, which does not learn, sees again and again."""
    game = AdversarialRecipe(layers=1, channels=16, start=0.0, augment=False, learning_rate=1.0)
    recipe = replace(TOKENIZER, steps=60, precision="float32", learning_rate=3e-3, adversarial=game, restart_every=0)
    model = ns.ImageTokenizer(recipe.model).init_weights(torch.Generator().manual_seed(0))
    model.requires_grad_(False)
    model.decoder.conv_out.weight.requires_grad_(True)  # lambda needs its gradient
    critic = PatchGAN(16, 1).init_weights(torch.Generator().manual_seed(0))
    state = make_state(TokenizerTask(model, recipe, critic, fresh_codes=False), recipe, Execution(), CPU)
    losses = []
    for step in range(recipe.steps):
        for name, optimizer in state.optimizers.items():
            set_step(optimizer, recipe, step)
            if name == "model":
                for group in optimizer.param_groups:
                    group["lr"] = 0.0
        losses.append(training_step(state, [a_batch()], recipe, step)["critic_loss"].item())
    assert losses[-1] < 0.5 * losses[0]


def test_random_numbers_of_a_step_and_after_it_differ():
    """For all steps and seeds: no generator is used twice."""
    seen = [
        torch.rand(4, generator=step_generator(seed, step, after)).tolist()
        for seed in (0, 1, 2)
        for step in (0, 1, 2, 3)
        for after in (False, True)
    ]
    assert len({tuple(numbers) for numbers in seen}) == len(seen)


def test_the_loop_gives_after_step_a_generator_of_its_own():
    numbers = {}

    class Listening(LargeErrorsTask):
        def losses(self, batch, step, generator):
            numbers["losses", step] = torch.rand(3, generator=generator).tolist()
            return super().losses(batch, step, generator)

        def after_step(self, step, metrics, generator):
            numbers["after", step] = torch.rand(3, generator=generator).tolist()
            return {}

    recipe = replace(TOKENIZER, precision="float32", seed=5)
    state = make_state(Listening(ns.ImageTokenizer(TOKENIZER.model)), recipe, Execution(), CPU)
    for step in (0, 1):
        training_step(state, [a_batch()], recipe, step)
        for name, after in (("losses", False), ("after", True)):
            assert numbers[name, step] == torch.rand(3, generator=step_generator(5, step, after)).tolist()
    assert len(set(map(tuple, numbers.values()))) == 4


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_random_numbers_of_an_image_do_not_depend_on_the_division(parts):
    def random(first: int, count: int) -> torch.Tensor:
        return BatchSlice(first, count, 8).random(2, generator=torch.Generator().manual_seed(3))

    count = 8 // parts
    assert torch.equal(torch.cat([random(i * count, count) for i in range(parts)]), random(0, 8))


def test_a_batch_of_tokens_has_no_images():
    from nextscale.data.content import Tokens

    with pytest.raises(ns.InputError, match="expected a batch of Pixels, got Tokens"):
        _ = a_batch()._replace(content=Tokens(torch.zeros(4, 5, dtype=torch.int64))).images
