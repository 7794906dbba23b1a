"""Eight optimizer steps of the training loop match those of the reference."""

from __future__ import annotations

import json

import golden_recipes
import pytest
import torch
from golden import FOLDER, Golden

import nextscale as ns
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.loop import training_step
from nextscale.training.optimizer import make_optimizer, set_step
from nextscale.training.parallel import Execution
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.transformer_task import TransformerTask

EXPECTED = json.loads((FOLDER / "training.json").read_text())


def recipe_of(expected: dict, config: ns.VARConfig, batch_size: int) -> TransformerRecipe:
    return golden_recipes.recipe_of(expected, config, batch_size, label_drop=0.0)


@pytest.mark.parametrize("name", ["base", "shared_adaln"])
def test_eight_steps(name):
    golden, expected = Golden(name), EXPECTED[name]
    tokenizer, model = golden.models()
    images, labels = golden.arrays["image"], golden.arrays["labels"]
    batch = Batch(Pixels(images), labels, (), BatchSlice(0, len(labels), len(labels)))
    recipe = recipe_of(expected, model.config, len(labels))
    state = make_state(TransformerTask(model, tokenizer, recipe), recipe, Execution(), torch.device("cpu"))
    optimizer = state.optimizers[MODEL]
    for row in expected["steps"]:
        rate = set_step(optimizer, recipe, row["step"])
        metrics = training_step(state, [batch], recipe, row["step"])
        assert rate == pytest.approx(row["lr"], rel=1e-9)
        assert {group["lr"] for group in optimizer.param_groups} == {rate}
        decays = sorted(group["weight_decay"] for group in optimizer.param_groups)
        assert decays == [0, pytest.approx(row["weight_decay"], rel=1e-9)]
        assert metrics["loss"].item() == pytest.approx(row["loss"], rel=1e-4)
        assert metrics["grad_norm"].item() == pytest.approx(row["grad_norm"], rel=1e-4)
    norm = torch.cat([p.detach().double().flatten() for p in model.parameters()]).norm().item()
    assert norm == pytest.approx(expected["final_param_norm"], rel=1e-5)


@pytest.mark.parametrize("name", ["base", "shared_adaln"])
def test_parameters_without_decay(name):
    tokenizer, model = Golden(name).models()
    optimizer = make_optimizer(model, recipe_of(EXPECTED[name], model.config, 1))
    set_step(optimizer, recipe_of(EXPECTED[name], model.config, 1), 0)
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.fill_(group["weight_decay"])
    _, official = ns.to_official(tokenizer, model)
    names = Golden(name).state("var")
    assert {n for n in names if not official[n].any()} == set(EXPECTED[name]["no_decay"])
