"""Recipes from presets or files, with changed fields."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny import refused
from tiny_runs import TOKENIZER, TRANSFORMER

import nextscale as ns
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.changes import find_recipe, override
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.presets.var import TOKENIZERS
from nextscale.training.recipes import TokenizerRecipe, TransformerRecipe

GAME = dataclasses.replace(TOKENIZER, adversarial=AdversarialRecipe(layers=1))


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("l1=0.5", "l1", 0.5),
        ("steps=7", "steps", 7),
        ("flip=false", "flip", False),
        ("precision=float32", "precision", "float32"),
        ('precision="tf32"', "precision", "tf32"),
        ("betas=[0.5, 0.9]", "betas", (0.5, 0.9)),
        ("betas=0.5,0.9", "betas", (0.5, 0.9)),
        ('freeze=["encoder.*", "*.bias"]', "freeze", ("encoder.*", "*.bias")),
        ("freeze=encoder.*, *.bias", "freeze", ("encoder.*", "*.bias")),
        ("vgg_weights=a=b.pth", "vgg_weights", "a=b.pth"),
    ],
)
def test_one_number_changes_and_no_other(setting, field, value):
    changed = override(TOKENIZER, [setting])
    assert getattr(changed, field) == value
    assert changed == dataclasses.replace(TOKENIZER, **{field: value})


def test_no_settings_change_nothing():
    assert override(TOKENIZER, ()) is TOKENIZER


def test_dots_lead_into_parts():
    changed = override(TOKENIZER, ["model.channels=64", "model.multipliers=[1]", "model.schedule=1,2x3,4x5"])
    model = dataclasses.replace(TOKENIZER.model, channels=64, multipliers=(1,))
    model = dataclasses.replace(model, schedule=ns.ScaleSchedule(((1, 1), (2, 3), (4, 5))))
    assert changed == dataclasses.replace(TOKENIZER, model=model)


@pytest.mark.parametrize(("text", "value"), [("1,2,4", (1, 2, 4)), ("1, 2", (1, 2)), ("[3]", (3,))])
def test_lists_need_no_brackets(text, value):
    assert override(TOKENIZER, [f"model.multipliers={text}"]).model.multipliers == value


def test_the_last_setting_of_a_name_holds():
    assert override(TOKENIZER, ["l1=0.5", "l1=0.75"]).l1 == 0.75


def test_a_critic_comes_by_naming_one_of_its_numbers():
    changed = override(TOKENIZER, ["adversarial.layers=1", "adversarial.weight=0.2"])
    assert changed.adversarial == AdversarialRecipe(layers=1, weight=0.2)


def test_a_critic_keeps_its_other_numbers_and_goes_with_null():
    assert override(GAME, ["adversarial.start=0.5"]).adversarial == AdversarialRecipe(layers=1, start=0.5)
    assert override(GAME, ["adversarial=null"]) == TOKENIZER


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("l1", ("name=value", "'l1'")),
        ("colour=1", ("'colour'", "it has", "learning_rate")),
        ("model.colour=1", ("'model.colour'", "model has", "channels")),
        ("steps.x=1", ("'steps.x'", "no fields")),
        ("taste.x=1", ("'taste.x'", "no fields")),
        ("model.schedule.x.y=1", ("'model.schedule.x.y'",)),
        ("=1", ("''",)),
        ("steps=many", ("steps", "'many'")),
        ("steps=1.5", ("steps", "1.5")),
        ("steps=null", ("steps", "None")),
        ("flip=1", ("flip", "true or false")),
        ("learning_rate=NaN", ("learning_rate", "nan")),
        ("learning_rate=true", ("learning_rate", "True")),
        ("betas=0.9", ("betas must be a list", "0.9")),
        ("freeze=encoder.*", ("freeze must be a list", "'encoder.*'")),
        ("freeze=null", ("freeze must be a list", "None")),
        ("schedule=5", ("schedule must be a text", "5")),
        ("ema_decay=-5", ("ema_decay", "from 0 to 1", "-5")),
        ("final_ratio=-3", ("final_ratio", "at least 0", "-3")),
        ("weight_decay=-5", ("weight_decay", "at least 0", "-5")),
        ("warmup=3", ("warmup", "from 0 to 1", "3")),
        ("l1=-1", ("l1", "at least 0", "-1")),
        ("adversarial.weight=-1", ("weight", "at least 0", "-1")),
        ("adversarial.dino_weights=3", ("dino_weights must be a text", "3")),
        ("precision=float8", ("float8", "bfloat16")),
        ("gpu_precision=auto", ("gpu_precision", "'auto'", "bfloat16")),
        ("model=3", ("TokenizerConfig",)),
        ("model.schedule=1,two", ("1,two",)),
        ("model.schedule=1,4,2", ("4x4", "larger than the last scale 2x2")),
        ("model.channels=33", ("channels", "32")),
        ("adversarial=1", ("AdversarialRecipe",)),
        ("adversarial.critic=human", ("human", "patchgan", "dino")),
        ("lpips=0.5", ("vgg_weights", "lpips_weights")),
        ("scale_dropout=2", ("scale_dropout", "2")),
    ],
)
def test_what_does_not_fit_is_refused(setting, words):
    with refused(*words):
        override(TOKENIZER, [setting])


def test_a_transformer_has_no_critic():
    with refused("'adversarial.weight'", "no fields"):
        override(TRANSFORMER, ["adversarial.weight=1"])


@pytest.mark.parametrize("presets", [TOKENIZERS, TRANSFORMERS], ids=["tokenizers", "transformers"])
def test_every_preset_is_what_its_file_says(presets, tmp_path):
    for name, recipe in presets.items():
        fields = dataclasses.asdict(recipe)
        for content in (fields, {"inputs": {"data": "photos"}, "recipe": fields}):
            (tmp_path / "recipe.json").write_text(json.dumps(content))
            assert find_recipe(presets, str(tmp_path / "recipe.json")) == find_recipe(presets, name) == recipe


def test_the_recipe_of_a_run_is_a_preset(tokenizer_run, var_run):
    assert find_recipe(TOKENIZERS, str(tokenizer_run / "recipe.json")) == TOKENIZER
    assert find_recipe(TRANSFORMERS, str(var_run / "recipe.json")) == TRANSFORMER


def test_a_recipe_of_the_other_kind(tokenizer_run, var_run):
    with refused("TransformerRecipe has no field", "commitment"):
        find_recipe(TRANSFORMERS, str(tokenizer_run / "recipe.json"))
    with refused("TokenizerRecipe has no field", "depth"):
        find_recipe(TOKENIZERS, str(var_run / "recipe.json"))


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"recipe": {"steps": 3}}'])
def test_a_file_without_a_recipe(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with refused():
        find_recipe(TOKENIZERS, str(tmp_path / "a.json"))


def test_no_such_preset(tmp_path):
    with refused("'huge'", "starter", ".json"):
        find_recipe(TOKENIZERS, "huge")
    with refused(tmp_path / "none.json"):
        find_recipe(TOKENIZERS, str(tmp_path / "none.json"))


def test_both_kinds_know_their_own():
    assert all(isinstance(recipe, TokenizerRecipe) for recipe in TOKENIZERS.values())
    assert all(isinstance(recipe, TransformerRecipe) for recipe in TRANSFORMERS.values())
