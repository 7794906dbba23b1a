"""The recipes of Infinity: official sizes, stages of different pixel budgets, and the small model of scenes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import refused
from tiny_captions import INTERVALS, RECIPE, Halves, with_text
from tiny_infinity import SCHEDULES, WordEncoder, make_tokenizer

import nextscale as ns
from nextscale.io.config import as_record
from nextscale.training.aspects import at_budget
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.presets.infinity_tokenizers import TOKENIZERS
from nextscale.training.recipes import TextRecipe
from nextscale.training.text_setup import fresh_model
from nextscale.transformer.infinity_config import SIZES

OFFICIAL = [name for name in SIZES if name != "20b"]
"""The recipe of the 20B model is not known."""


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes(name):
    recipe, size = TRANSFORMERS[name], SIZES[name]
    assert recipe.text and recipe.text.budget == "0.06M" and recipe.text.tokens == 512 and recipe.text.words is None
    assert (recipe.depth, recipe.width, recipe.heads) == (size["depth"], size["width"], size["heads"])
    assert recipe.text.chunks == size["chunks"]
    assert recipe.learning_rate / recipe.batch_size == 6e-5 / 4096


def test_records_of_class_conditional_runs_are_those_of_older_versions():
    recorded = as_record(TRANSFORMERS["d16"])
    assert list(recorded)[-6:] == ["heads", "shared_adaln", "label_drop", "drop_path", "init_gamma", "lora"]


@pytest.mark.parametrize("name", ["2b", "8b"])
def test_stages_differ_in_size_and_length(name):
    first, second, third = (TRANSFORMERS[f"{name}{stage}"] for stage in ("", "-512", "-1024"))
    assert [each.text.budget for each in (first, second, third) if each.text] == ["0.06M", "0.25M", "1M"]
    assert [each.steps for each in (first, second, third)] == [150_000, 110_000, 60_000]
    assert (third.learning_rate, third.batch_size) == (2e-5, 2048)
    assert (first.depth, first.width, first.clip) == (third.depth, third.width, third.clip)


def test_the_model_of_scenes_is_small():
    tokenizer = ns.ImageTokenizer(TOKENIZERS["scenes"].model)
    model = fresh_model(tokenizer, TRANSFORMERS["scenes"], {"text_width": 256, "text_rows": 64})
    assert 6e6 < sum(p.numel() for p in model.parameters()) < 8e6
    assert not TRANSFORMERS["scenes"].flip


def test_a_pixel_budget_changes_the_scales_and_no_weights():
    tokenizer = make_tokenizer()
    changed = at_budget(tokenizer, "0.06M")
    assert changed.schedule == ns.ScaleSchedule.infinity("0.06M") and changed.fingerprint() == tokenizer.fingerprint()
    assert changed.config.image_size == (64, 64) and tokenizer.schedule == SCHEDULES["square"]
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        expected = tokenizer.encode(images, changed.schedule)
    assert all(torch.equal(*pair) for pair in zip(changed.encode(images), expected, strict=True))
    with refused("2M", "0.06M"):
        TextRecipe(budget="2M")


def test_a_run_of_a_pixel_budget(tmp_path, monkeypatch):
    class Larger(Halves):
        def __getitem__(self, key):
            example = super().__getitem__(key)
            image = torch.nn.functional.interpolate(example.image[None], size=(64, 64))[0]
            return example._replace(content=type(example.content)(image))

    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", lambda *_: (Larger(16), None))
    recipe = with_text(replace(RECIPE, precision="float32"), budget="0.06M")
    rare: dict[str, Any] = dict.fromkeys(INTERVALS, 0) | {"steps": 1}
    pipe = ns.train_transformer("halves", tmp_path, make_tokenizer(), recipe, text_encoder=WordEncoder(), **rare)
    assert pipe.model.schedule == pipe.tokenizer.schedule == ns.ScaleSchedule.infinity("0.06M")
    assert pipe("red on the left", seed=0).images[0].size == (64, 64)
