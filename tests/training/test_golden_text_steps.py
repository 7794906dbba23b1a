"""Eight optimizer steps of Infinity through the training loop match those of the reference."""

from __future__ import annotations

import json
import zlib
from copy import deepcopy
from typing import Any

import golden_recipes
import numpy as np
import pytest
import torch
from golden_infinity import FOLDER, golden

import nextscale as ns
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.loop import training_step
from nextscale.training.optimizer import make_optimizer, set_step
from nextscale.training.parallel import Execution
from nextscale.training.recipes import TextRecipe, TransformerRecipe
from nextscale.training.schedules import learning_rate
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.text_task import TextTask

EXPECTED = json.loads((FOLDER / "training.json").read_text())
TRACES = ("square", "square_reweighted", "patchify_noise_drop")


class RecordedTask(TextTask):
    """Flips and drops what the reference did. ``row`` is the step of its trace."""

    row: dict[str, Any]

    def token_loss(self, model, head, batch, noise=None):
        assert noise is not None
        dropped = torch.tensor(self.row.get("text_dropped", [False] * len(batch.labels)))
        return super().token_loss(model, head, batch, noise._replace(dropped=dropped))

    def features(self, images, schedule):
        """Those of the reference: at step 2, the sign of a residual is within the rounding of the encoder."""
        ours, theirs = super().features(images, schedule), golden("patchify").arrays["encoder_feature"]
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        return theirs

    def flips(self, batch, schedule, generator):
        case, found = golden("patchify"), []
        rng = np.random.RandomState(zlib.crc32(f"{case.info['salt']}/training_noise/{self.row['step']}".encode()))
        for visit, rate in zip(schedule.visits, self.row.get("flip_probability", ()), strict=False):
            assert rng.randint(0, 31) == round(100 * rate)
            h, w = (2 * side for side in visit.size[1:])
            drawn = rng.random_sample((len(batch.labels), 1, h, w, case.models[0].config.code_dim)) < 0.01 * round(
                100 * rate
            )
            found.append(case.to_tokens(torch.from_numpy(drawn[:, 0])))
        return found


def recipe_of(expected: dict, config: ns.InfinityConfig, batch_size: int) -> TransformerRecipe:
    text = TextRecipe(loss_weights="scale" if expected["reweight_by_scale"] else "token")
    more = {"ema_decay": 0.0, "shared_adaln": True, "text": text}
    return golden_recipes.recipe_of(expected, config, batch_size, **more)


@pytest.mark.parametrize("name", TRACES)
def test_eight_steps(name):
    expected = EXPECTED[name]
    case = golden(expected["case"])
    tokenizer, model = deepcopy(case.models)
    images = case.images["image"].float() / 255 * 2 - 1
    batch = Batch(
        Pixels(images), torch.zeros(2, dtype=torch.int64), (), BatchSlice(0, 2, 2), captions=("first", "second")
    )
    recipe = recipe_of(expected, model.config, 2)
    task = RecordedTask(model, tokenizer, recipe, lambda captions: case.text)
    state = make_state(task, recipe, Execution(), torch.device("cpu"))
    optimizer = state.optimizers[MODEL]
    for row in expected["steps"]:
        task.row = row
        rate = set_step(optimizer, recipe, row["step"])
        metrics = training_step(state, [batch], recipe, row["step"])
        for group in row["groups"]:
            ours = next(ours for ours in optimizer.param_groups if ours["decays"] == group["decay"])
            assert rate == ours["lr"] == pytest.approx(group["lr"], rel=1e-9)
            assert ours["weight_decay"] == pytest.approx(group["weight_decay"], rel=1e-9)
        assert metrics["loss"].item() == pytest.approx(row["loss"], abs=1e-6), row["step"]
        assert metrics["grad_norm"].item() == pytest.approx(row["grad_norm"], rel=1e-5), row["step"]
        counts = torch.tensor(model.schedule.tokens_per_scale) / model.schedule.num_tokens
        assert (metrics["scale_loss"] * counts).sum().item() == pytest.approx(row["mean_bit_loss"], abs=1e-6)
        assert metrics["scale_loss"][-1].item() == pytest.approx(row["last_scale_loss"], abs=2e-6)
        accuracy = 100 * (metrics["scale_accuracy"] * counts).sum().item()
        assert accuracy == pytest.approx(row["bit_accuracy_percent"], abs=0.01)
        last = 100 * metrics["scale_accuracy"][-1].item()
        assert last == pytest.approx(row["last_scale_bit_accuracy_percent"], abs=0.02)
    norm = torch.cat([p.detach().double().flatten() for p in model.parameters()]).norm().item()
    assert norm == pytest.approx(expected["final_param_norm"], rel=1e-6)


@pytest.mark.parametrize("name", TRACES)
def test_parameters_without_decay(name):
    expected = EXPECTED[name]
    tokenizer, model = deepcopy(golden(expected["case"]).models)
    optimizer = make_optimizer(model, recipe_of(expected, model.config, 1))
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.fill_(group["decays"])
    _, official = ns.to_official(tokenizer, model)
    names = golden(expected["case"]).state("transformer")
    assert {n for n in names if not official[n].any()} == set(expected["no_decay"]) & names.keys()
    assert all(name.endswith("zero_k_bias") for name in set(expected["no_decay"]) - names.keys())


@pytest.mark.parametrize("table", EXPECTED["schedules"], ids=lambda table: table["schedule"])
def test_rates(table):
    for step, expected in enumerate(table["lr"]):
        ours = learning_rate(
            step,
            table["total_steps"],
            peak=1.0,
            warmup=table["warmup_steps"],
            warmup_start=table["warmup_start"],
            final_ratio=table["final_ratio"],
            schedule=table["schedule"],
        )
        assert ours == pytest.approx(expected, rel=1e-12)
