"""Self-correction and optimizer steps of InfinityStar match those of the reference."""

from __future__ import annotations

import json
import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from golden_infinity_star import FOLDER, Golden, read, tables

from nextscale.data.content import Latents
from nextscale.data.loader import Batch, BatchSlice
from nextscale.official.infinity_star import infinity_star_to_official
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.tokenizer.spacetime_pyramid import SpacetimePyramid
from nextscale.training.loop import training_step
from nextscale.training.losses import visit_factors
from nextscale.training.optimizer import set_step
from nextscale.training.parallel import Execution
from nextscale.training.recipes import TextRecipe, TransformerRecipe
from nextscale.training.self_correction import corrected_visits
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.video_task import VideoTask
from nextscale.training.visit_choice import released_subsets

CASE = Golden("base")
RUNS = json.loads((FOLDER / "training.json").read_text())["runs"]


def random_of_reference(schedule: SpacetimeSchedule, strength: float) -> tuple[list[Visit], list[torch.Tensor]]:
    """The visits that the reference trains, and the bits that it flips, from the global generators."""
    pyramid, chosen, flips = SpacetimePyramid(schedule), [], []
    for k in range(schedule.num_scales):
        repeats = [visit for visit in schedule.visits if visit.scale == k]
        chosen.append(repeats[np.random.randint(0, len(repeats))])
        for visit in repeats if k < schedule.num_scales - 1 else ():
            rate = np.random.randint(0, int(100 * strength + 1)) * 0.01
            uniform = torch.rand(1, *visit.size, pyramid.quantizer(visit).dim)
            flips.append((uniform < rate).flatten(1, 3))
    return chosen, flips


def seed_all(seed: int, torch_seed: int) -> None:
    np.random.seed(seed)
    torch.manual_seed(torch_seed)
    random.seed(seed)


@pytest.fixture(autouse=True)
def global_generators():
    """Leave the global generators as they were."""
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        yield
    np.random.set_state(before[0])
    random.setstate(before[1])


@pytest.mark.parametrize("run", CASE.info["self_correction"], ids=lambda run: run["name"])
def test_self_correction(run):
    schedule, arrays = CASE.schedule(run["latent_length"]), read("base-self_correction")
    seed_all(run["numpy_seed"], run["torch_seed"])
    chosen, flips = random_of_reference(schedule, run["strength"])
    counts = [int(flips[visit.index].sum()) if visit.index < len(flips) else 0 for visit in chosen]
    assert counts == run["flips"]
    features = CASE.features(run["latent_length"])
    labels, inputs = corrected_visits(SpacetimePyramid(schedule), features, flips, schedule, chosen)
    torch.testing.assert_close(torch.cat(inputs, 1), arrays[f"{run['name']}_inputs"], atol=1e-5, rtol=0)
    noisy = [bits ^ flips[v.index] if v.index < len(flips) else bits for v, bits in zip(chosen, labels, strict=True)]
    for name, bits in (("labels", labels), ("noisy_bits", noisy)):
        flat = torch.cat([each.flatten() for each in bits])
        golden = np.unpackbits(arrays[f"{run['name']}_{name}"].numpy())[: len(flat)]
        assert torch.equal(flat, torch.from_numpy(golden).bool())


class RecordedTask(VideoTask):
    """Flips, drops and supervises what the reference did, in samples that may differ in length."""

    samples: tuple[int, ...]

    def losses(self, batch, step, generator):
        seed_all(100 + step, 100 + step)
        drawn = [random_of_reference(CASE.schedule(n), self.text.self_correction) for n in self.samples]
        dropped = [random.random() < self.recipe.label_drop for _ in self.samples]
        total, weights = torch.zeros(()), 0.0
        for i, (n, (chosen, flips)) in enumerate(zip(self.samples, drawn, strict=True)):
            self.schedule, self.number, self.visits, self.flipped = CASE.schedule(n), i, chosen, flips
            part = Batch(Latents(CASE.features(n)), torch.zeros(1), (), BatchSlice(0, 1, 1), (str(i),))
            losses, _ = super().losses(part, step, generator)
            weight = float((torch.tensor([v.num_tokens for v in chosen]) * self.factors(chosen)).sum())
            total, weights = total + weight * losses[MODEL], weights + weight
        assert dropped == len(dropped) * [self.recipe.label_drop == 1]  # never or always
        return {MODEL: total / weights}, {}

    def chosen(self, generator):
        return self.visits

    def flips(self, batch, schedule, generator):
        return self.flipped


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{len(run['samples'])}-{run['strength']}-{run['drop']}")
def test_steps(run):
    model = deepcopy(CASE.transformer)
    recipe = TransformerRecipe(
        steps=run["steps"],
        batch_size=1,
        learning_rate=run["lr"],
        precision="float32",
        warmup=0.0,
        final_ratio=1.0,
        betas=(0.9, 0.97),
        weight_decay=0.0,
        weight_decay_end=0.0,
        clip=run["clip"],
        ema_decay=0.0,
        flip=False,
        depth=3,
        width=64,
        heads=4,
        label_drop=run["drop"],
        text=TextRecipe(
            self_correction=run["strength"],
            self_correction_scales=100,
            loss_weights="scale" if run["reweight"] else "token",
        ),
    )
    assert run["reweight"] in (0, 4)
    lengths = run["text_lengths"]
    task = RecordedTask(
        model, CASE.tokenizer, recipe, lambda texts: CASE.text([int(texts[0])], [lengths[int(texts[0])]])
    )
    task.samples = tuple(run["samples"])
    state = make_state(task, recipe, Execution(), torch.device("cpu"))
    batch = Batch(Latents(torch.zeros(1)), torch.zeros(1), (), BatchSlice(0, 1, 1), ("",))
    for step, expected in enumerate(run["steps_done"]):
        set_step(state.optimizers[MODEL], recipe, step)
        metrics = training_step(state, [batch], recipe, step)
        assert metrics["loss"].item() == pytest.approx(expected["loss"], abs=2e-5), step
        assert metrics["grad_norm"].item() == pytest.approx(expected["grad_norm"], abs=2e-5), step
        if norms := expected.get("grad_norms"):
            assert norms.pop("sos_token") is None
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.copy_(parameter.grad)
            clipped = min(1.0, run["clip"] / metrics["grad_norm"].item())
            ours = {name: g.norm().item() / clipped for name, g in infinity_star_to_official(model).items()}
            assert ours == pytest.approx(norms, abs=2e-5)


@pytest.mark.parametrize("run", CASE.info["teacher_forcing"], ids=lambda run: run["name"])
@torch.no_grad()
def test_weighted_loss(run):
    """The weights of the reference's losses, which a sequence of several samples shares."""
    arrays = read("base-transformer")[f"{run['name']}_token_loss"]
    visits, factors = [], []
    for n in run["latent_lengths"]:
        schedule = CASE.schedule(n)
        last = list({visit.scale: visit for visit in schedule.visits}.values())
        visits += last
        factors.append(visit_factors(last, schedule.visits[-1].num_tokens))
    counts = torch.tensor([visit.num_tokens for visit in visits])
    weights = counts * torch.cat(factors)
    weights /= weights.sum()
    assert weights.tolist() == pytest.approx(run["scale_weights_reweight4"], abs=1e-6)
    means = torch.stack([part.mean() for part in arrays.split(counts.tolist())])
    assert float((weights * means).sum()) == pytest.approx(run["loss_reweight4"], abs=2e-5)


def test_factors_of_the_released_models():
    for name, golden in tables()["loss_weights"].items():
        quality, latent_frames = name.split()
        budget = {"480p": "0.40M", "720p": "0.90M"}[quality]
        schedule = SpacetimeSchedule.official(budget, 9 / 16, (int(latent_frames) - 1) // 4)
        last = list({visit.scale: visit for visit in schedule.visits}.values())
        factors = visit_factors(last, last[-1].num_tokens)
        assert factors.tolist() == pytest.approx(golden["factor"], abs=1e-6)
        weights = factors * torch.tensor([visit.num_tokens for visit in last])
        assert (weights / weights.sum()).tolist() == pytest.approx(golden["weight"], abs=1e-8)


@pytest.mark.parametrize(
    ("name", "kind", "clips"),
    [
        ("480p 5 s", "480p", 2),
        ("480p 10 s", "480p", 3),
        ("720p 5 s, largest clip scale dropped", "720p", 2),
        ("720p 5 s, largest clip scale kept", "720p-largest", 2),
    ],
)
def test_subsets_of_the_released_scripts(name, kind, clips):
    golden, ours = tables()["training_subsets"][name], released_subsets(kind, clips)
    expected: dict[tuple[int, ...], float] = {}
    for scales, probability in zip(golden["subsets"], golden["probabilities"], strict=True):
        expected[tuple(scales)] = expected.get(tuple(scales), 0) + probability
    total = sum(subset.weight for subset in ours)
    assert {tuple(subset.scales): subset.weight / total for subset in ours} == pytest.approx(expected, abs=2e-6)
    schedule = SpacetimeSchedule.official("0.40M" if kind == "480p" else "0.90M", seconds=5 * (clips - 1))
    tokens = {visit.scale: visit.num_tokens for visit in schedule.visits}
    found = [sum(tokens[scale] for scale in subset) for subset in expected]
    assert found == list(dict(zip(map(tuple, golden["subsets"]), golden["visual_tokens_562"], strict=True)).values())
