"""The losses of the tokenizer and the critic, and restarts of codes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, random_images
from tiny_runs import TOKENIZER

import nextscale as ns
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.tokenizer.usage import CodeUsage
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.codebook_training import CodebookTraining
from nextscale.training.critics.critic import refresh_norms
from nextscale.training.critics.make import make_critic
from nextscale.training.loop import progress_line
from nextscale.training.scale_dropout import random_depths
from nextscale.training.task import MODEL
from nextscale.training.tokenizer_task import CRITIC, TokenizerTask

SQUARE = SCHEDULES["square"]
GAME = AdversarialRecipe(channels=8, layers=1, feature_matching=0.1, start=0.0, warmup=0.0, lecam=0.1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_task(game: AdversarialRecipe | None = None, schedule: ns.ScaleSchedule = SQUARE, **changes) -> TokenizerTask:
    recipe = replace(TOKENIZER, adversarial=game, precision="float32", **changes)
    critic = make_critic(game, seeded()) if game else None
    return TokenizerTask(deepcopy(make_tokenizer(schedule)), recipe, critic)


def batch_of(task: TokenizerTask, count: int = 3) -> Batch:
    return Batch(Pixels(random_images(task.model, count)), torch.zeros(count), (), BatchSlice(0, count, count))


def gradients(task: TokenizerTask, *networks: str) -> dict[str, torch.Tensor]:
    """Of the sum of the losses of these networks."""
    for network in task.networks.values():
        network.zero_grad()
    losses, _ = task.losses(batch_of(task), 10, seeded())
    torch.stack([losses[name] for name in networks]).sum().backward()
    return {
        f"{name}.{key}": p.grad.clone()
        for name, network in task.networks.items()
        for key, p in network.named_parameters()
        if p.grad is not None and p.grad.any()
    }


def test_the_sum_of_the_losses_gives_each_network_its_own_gradient():
    task = make_task(GAME)
    both, ours, critics = gradients(task, MODEL, CRITIC), gradients(task, MODEL), gradients(task, CRITIC)
    assert {name.split(".")[0] for name in ours} == {MODEL}
    assert {name.split(".")[0] for name in critics} == {CRITIC}
    assert both.keys() == ours.keys() | critics.keys()
    for name, gradient in (ours | critics).items():
        torch.testing.assert_close(both[name], gradient)


def test_the_critic_waits_for_its_start():
    task = make_task(replace(GAME, start=0.5))
    losses, metrics = task.losses(batch_of(task), TOKENIZER.steps // 2 - 1, seeded())
    assert losses.keys() == {MODEL} and "adversarial" not in metrics
    losses, metrics = task.losses(batch_of(task), TOKENIZER.steps // 2, seeded())
    assert losses.keys() == {MODEL, CRITIC} and "adversarial" in metrics


def test_a_critic_changes_what_the_tokenizer_learns():
    plain, judged = (gradients(make_task(game), MODEL) for game in (None, GAME))
    name = "model.decoder.conv_out.weight"
    assert not torch.allclose(plain[name], judged[name], rtol=1e-2)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_loss_is_the_sum_of_its_weighted_terms(adaptive):
    """Reconstruction + quantizer + growth * (weight * adversarial + feature matching): every term is minimised."""
    game = replace(GAME, adaptive=adaptive, weight=0.3, warmup=0.5, largest_lambda=1e4)
    task = make_task(game)
    growth = game.growth(3, TOKENIZER.steps)
    assert 0 < growth < 1
    losses, metrics = task.losses(batch_of(task), 3, seeded())
    added = metrics["adversarial_weight"] * metrics["adversarial"] + 0.1 * metrics["feature_distance"]
    expected = metrics["reconstruction"] + metrics["vq"] + growth * added
    torch.testing.assert_close(losses[MODEL], expected)
    weight = metrics["adversarial_weight"].item()
    assert weight > 0 and (weight == pytest.approx(0.3)) is not adaptive


def test_the_critics_scores_are_remembered_slowly():
    task = make_task(GAME)
    for step in range(3):
        before = task.tensors()["scores"].clone()
        _, metrics = task.losses(batch_of(task), step, seeded())
        task.after_step(step, metrics, seeded())
        new = torch.stack((metrics["score_real"], metrics["score_fake"]))
        torch.testing.assert_close(task.tensors()["scores"], 0.99 * before + 0.01 * new)


def test_a_step_refreshes_the_critics_norms_once():
    task, other = make_task(GAME), make_task(GAME)
    assert task.critic and other.critic
    _, metrics = task.losses(batch_of(task), 1, seeded())
    task.after_step(1, metrics, seeded())
    refresh_norms(other.critic)
    theirs = other.critic.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in task.critic.state_dict().items())


def test_the_loss_of_a_batch_depends_on_the_generator_alone():
    first, again, other = (
        make_task(GAME, scale_dropout=0.5).losses(batch_of(make_task()), 10, seeded(seed))[0][MODEL].item()
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_codes_start_from_the_data_and_dead_ones_restart():
    task = make_task(restart_every=3)
    codes = task.model.pyramid.codebook.weight
    for step in range(4):
        task.losses(batch_of(task), step, seeded())
        counts = task.quantizer
        assert isinstance(counts, CodebookTraining)
        used, before = counts.hits + counts.new_hits > 0, codes.clone()
        metrics = task.after_step(step, {}, seeded())
        changed = (codes != before).any(1)
        if step == 0:
            assert changed.all()
        elif step == 3:
            assert torch.equal(changed, ~used)
            assert metrics["restarted_codes"] == (~used).sum() > 0
            assert not counts.hits.any()
        else:
            assert not changed.any()


def test_codes_of_a_trained_tokenizer_stay_where_they_are():
    task = make_task()
    assert isinstance(task.quantizer, CodebookTraining)
    task.quantizer.fresh_codes = False
    before = task.model.pyramid.codebook.weight.clone()
    task.losses(batch_of(task), 0, seeded())
    task.after_step(0, {}, seeded())
    assert torch.equal(task.model.pyramid.codebook.weight, before)


def test_frozen_codes_stay():
    task = make_task(restart_every=1)
    codes = task.model.pyramid.codebook.weight.requires_grad_(False)
    before = codes.clone()
    for step in range(3):
        task.losses(batch_of(task), step, seeded())
        task.after_step(step, {}, seeded())
    assert torch.equal(codes, before)


def test_a_collapsed_codebook_raises_an_alarm():
    task = make_task()
    task.losses(batch_of(task), 1, seeded())
    assert "alarm" not in task.report()
    with torch.no_grad():
        task.model.pyramid.codebook.weight[1:] = 1e6
    task.losses(batch_of(task), 2, seeded())
    figures = task.report()
    line = progress_line(2, 9, figures | {"images_per_second": 1.0}, 1e-3, 4)
    assert "1 of 24 codes" in figures["alarm"] and line.endswith(f"ALARM: {figures['alarm']}")
    assert "alarm" not in task.report()  # nothing was seen since


@pytest.mark.parametrize("share", [0.0, 0.005])
def test_a_scale_at_which_nearly_every_token_is_one_code_raises_an_alarm(share):
    usage = CodeUsage(ns.ScaleSchedule.square((1, 2, 4)), 64)
    usage.counts += 100
    assert usage.collapsed() == ""
    usage.counts[1] = 0
    usage.counts[1, 3] = 63
    assert usage.collapsed() == ""  # too few to tell
    usage.counts[1] = torch.full((64,), round(share * 10_000 / 63))
    usage.counts[1, 3] = 10_000
    assert usage.collapsed().startswith("collapse: perplexity 1.0") and usage.collapsed().endswith("at 2x2")


def test_a_scale_of_one_token_may_use_every_code():
    """Usage is that of the data set, not of an image."""
    task = make_task(schedule=ns.ScaleSchedule(((1, 1),)))
    images = random_images(task.model, 24)
    with torch.no_grad():
        task.model.pyramid.codebook.weight.copy_(task.model(images, 0.25, None).looks)
    batches = [Batch(Pixels(part), torch.zeros(6), (), BatchSlice(0, 6, 6)) for part in images.split(6)]
    figures = task.validate(task.model, batches)
    assert figures["usage"] == [1] and figures["unused_codes"] == 0
    assert figures["perplexity"] == pytest.approx([24])
    figures = task.validate(task.model, batches[:2])
    assert figures["usage"] == [0.5] and figures["unused_codes"] == 12
    assert figures["perplexity"] == pytest.approx([12])


def test_validation_leaves_out_images_that_do_not_count():
    task = make_task()
    images = random_images(task.model, 4)
    whole = [Batch(Pixels(images[i : i + 2]), torch.zeros(2), (), BatchSlice(0, 2, 2)) for i in (0, 2)]
    padded = [*whole, Batch(Pixels(images[:1]), torch.zeros(1), (), BatchSlice(0, 0, 1))]
    assert task.validate(task.model, whole) == task.validate(task.model, padded)


def test_depths_are_drawn_evenly():
    batch_slice = BatchSlice(0, 20_000, 20_000)
    depths = random_depths(batch_slice, 0.4, 5, seeded())
    assert depths is not None
    shares = depths.bincount(minlength=6) / len(depths)
    assert shares[0] == 0
    assert shares[1:].tolist() == pytest.approx([0.08] * 4 + [0.68], abs=0.01)
    assert random_depths(batch_slice, 0.0, 5, seeded()) is None


def test_draws_of_a_part_are_those_of_the_whole():
    whole = random_depths(BatchSlice(0, 8, 8), 0.9, 5, seeded())
    parts = [random_depths(BatchSlice(first, 2, 8), 0.9, 5, seeded()) for first in range(0, 8, 2)]
    assert whole is not None
    assert torch.equal(torch.cat([part for part in parts if part is not None]), whole)
