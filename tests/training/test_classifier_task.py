"""Training a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused
from torch import Tensor, nn

from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice, validation_batches
from nextscale.data.splits import open_image_splits
from nextscale.evaluation.classifier import ClassifierConfig, ResidualClassifier
from nextscale.training.classifier_task import (
    TINT,
    ClassifierRecipe,
    ClassifierTask,
    jitter,
    measure,
    random_share,
)
from nextscale.training.loop import Intervals, step_generator, train
from nextscale.training.run import Run
from nextscale.training.task import MODEL

SIZE, CPU = (16, 16), torch.device("cpu")
RECIPE = ClassifierRecipe(
    model=ClassifierConfig(2, SIZE, (8, 16)), steps=30, batch_size=8, learning_rate=5e-3, precision="float32"
)


@pytest.fixture(scope="session")
def stripes(tmp_path_factory) -> Path:
    """Two classes that anyone can tell apart: stripes that lie, and stripes that stand."""
    root, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for name in ("lying", "standing"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                wave = np.sin(np.arange(40) * rng.uniform(0.5, 0.9) + rng.uniform(0, 6))
                image = np.broadcast_to(wave[:, None] if name == "lying" else wave, (40, 40))[..., None]
                noisy = 128 + 80 * image * rng.uniform(0.6, 1, 3) + rng.normal(0, 10, (40, 40, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


def run_on(stripes: Path, out: Path, seed: int = 0) -> ResidualClassifier:
    recipe = replace(RECIPE, seed=seed)
    data, held_out = open_image_splits(stripes, SIZE, seed, zoom=True)
    network = ResidualClassifier(recipe.model).init_weights(torch.Generator().manual_seed(seed))
    average = train(
        ClassifierTask(network, recipe), data, held_out, recipe, Run(out, recipe, {}), Intervals(log_every=10), CPU
    )
    assert isinstance(average, ResidualClassifier)
    return average


@pytest.fixture(scope="session")
def trained(stripes, tmp_path_factory) -> ResidualClassifier:
    return run_on(stripes, tmp_path_factory.mktemp("run"))


def test_it_tells_lying_from_standing_stripes(stripes, trained):
    _, held_out = open_image_splits(stripes, SIZE, 0)
    assert held_out is not None
    counted = measure(trained, validation_batches(held_out, 5))
    assert counted.images == 12 and counted.accuracy > 0.9
    fresh = ResidualClassifier(RECIPE.model).init_weights(torch.Generator().manual_seed(0))
    assert measure(fresh, validation_batches(held_out, 5)).accuracy < 0.9


def test_the_same_seed_gives_the_same_weights(stripes, trained, tmp_path):
    again, other = run_on(stripes, tmp_path / "again"), run_on(stripes, tmp_path / "other", seed=1)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert not torch.equal(other.head.weight, trained.head.weight)


def batch(n: int = 8) -> Batch:
    images = torch.rand(n, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(Pixels(images), torch.arange(n) % 2, (), BatchSlice(0, n, n))


def changed(images: Tensor, seed: int = 0) -> Tensor:
    return jitter(images, BatchSlice(0, len(images), len(images)), torch.Generator().manual_seed(seed))


def test_jitter_stays_in_range_and_follows_its_generator():
    images = batch().images
    assert torch.equal(changed(images), changed(images)) and not torch.equal(changed(images), changed(images, 1))
    assert changed(images).abs().max() <= 1 and changed(images).shape == images.shape


def test_jitter_is_divided_with_the_batch():
    images, whole = batch().images, changed(batch().images)
    for first in (0, 4):
        part = jitter(images[first : first + 4], BatchSlice(first, 4, 8), torch.Generator().manual_seed(0))
        assert torch.equal(part, whole[first : first + 4])


def test_jitter_of_grey_images_is_brightness_tint_and_a_hole():
    images = changed(torch.zeros(400, 3, 12, 12))
    hidden = (images == 0).all(1)
    assert hidden.flatten(1).sum(1).max() == (12 // 3) ** 2
    colour = images.flatten(2).sum(2) / (~hidden).flatten(1).sum(1, keepdim=True)
    mean = colour.mean(1)
    assert 0.3 < mean.abs().max() < 0.3 + TINT and abs(mean.mean()) < 0.05
    assert TINT < (colour.amax(1) - colour.amin(1)).max() < 2 * TINT


class Logits(nn.Module):
    """The mean of red as the logit of the second class; remembers what it saw."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        red = images[:, 0].mean((1, 2))
        return torch.stack((torch.zeros_like(red), red), 1)


def test_the_loss_is_that_of_the_formula():
    recipe = replace(RECIPE, mixup=2.0, label_smoothing=0.2)
    task, given = ClassifierTask(ResidualClassifier(recipe.model), recipe), batch()
    look = Logits()
    task.networks[MODEL] = look
    loss = task.losses(given, 0, step_generator(0, 0))[0][MODEL]
    images = jitter(given.images, given.batch_slice, generator := step_generator(0, 0))
    share = random_share(2.0, generator)
    other = torch.randperm(8, generator=generator)
    torch.testing.assert_close(look.seen, share * images + (1 - share) * images[other])
    soft = 0.8 * nn.functional.one_hot(given.labels, 2) + 0.1
    mixed = share * soft + (1 - share) * soft[other]
    torch.testing.assert_close(loss, -(mixed * look(look.seen).log_softmax(1)).sum(1).mean())


def test_shares_are_of_the_beta_distribution():
    shares = torch.tensor([random_share(0.3, step_generator(0, step)) for step in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.3 + 1)), abs=0.01)
    assert random_share(0.0, step_generator(0, 0)) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup": -1.0}, "mixup"),
        ({"mixup": float("nan")}, "mixup"),
        ({"batch_size": 1}, "batch norm"),
        ({"model": {"colour": 1}}, "colour"),
        ({"steps": 0}, "steps"),
    ],
)
def test_numbers_that_are_none(change, word):
    with refused(word):
        replace(RECIPE, **change)
