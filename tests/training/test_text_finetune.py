"""Fine-tuning Infinity: with other bits, another text encoder, other words, and with LoRA."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_tokenizer as make_codebook
from tiny import refused
from tiny_captions import INTERVALS, RECIPE, open_halves
from tiny_infinity import DIM, LENGTHS, SCHEDULES, TEXT_ROWS, WordEncoder, make_infinity, make_text, make_tokenizer

import nextscale as ns
from nextscale.conditioning.words_config import WordsConfig
from nextscale.training.lora import train_low_rank
from nextscale.training.text_finetune import OF_BITS, OF_TEXT, adapted

RARE = dict.fromkeys(INTERVALS, 0) | {"precision": "float32", "steps": 2}


@pytest.fixture(autouse=True)
def captioned(monkeypatch):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A model to start from."""
    folder = tmp_path_factory.mktemp("first") / "model"
    pipe = ns.Pipeline(make_tokenizer(), make_infinity(), device="cpu", dtype="float32", text_encoder=WordEncoder())
    pipe.save_pretrained(folder)
    return folder


def tune(first: Path, out: Path, tokenizer: Any = "", encoder: Any = None, **changes: Any) -> ns.Pipeline:
    encoder = encoder or WordEncoder()
    changes = {"init_from": str(first), **RARE, **changes}
    return ns.train_transformer("halves", out, tokenizer, RECIPE, text_encoder=encoder, **changes)


def moved(model: ns.Infinity, before: ns.Infinity) -> set[str]:
    """The parameters that differ."""
    ours, theirs = model.state_dict(), before.state_dict()
    return {name for name in ours if not torch.equal(ours[name], theirs[name])}


def test_the_same_model_goes_on(first, tmp_path, capsys):
    pipe = tune(first, tmp_path / "run", learning_rate=1e-30)
    before = make_infinity()
    assert pipe.model.config == before.config
    for name, tensor in pipe.model.state_dict().items():
        torch.testing.assert_close(tensor, before.state_dict()[name], atol=1e-6, rtol=0, msg=name)
    assert "all weights of the initial model" in capsys.readouterr().err
    recorded = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert (recorded["depth"], recorded["width"], recorded["text"]["tokens"]) == (4, 48, TEXT_ROWS)


@pytest.mark.parametrize(
    ("code_dim", "width", "parts", "words"),
    [
        (8, 32, OF_BITS, ("8 bits per token instead of 6",)),
        (DIM, 16, OF_TEXT, ("texts of width 16 instead of 32",)),
        (4, 64, (*OF_BITS, *OF_TEXT), ("4 bits", "width 64")),
    ],
)
def test_what_does_not_fit_starts_anew(first, tmp_path, capsys, code_dim, width, parts, words):
    tokenizer = make_tokenizer(code_dim=code_dim)
    pipe = tune(first, tmp_path / "run", tokenizer, WordEncoder(width), learning_rate=1e-30)
    assert (pipe.model.config.bits, pipe.model.config.text_width) == (code_dim, width)
    ours, before = pipe.model.state_dict(), make_infinity().state_dict()
    kept = {name for name in ours if ours[name].shape == before[name].shape and torch.equal(ours[name], before[name])}
    anew = {name for name in ours if name.startswith(parts)}
    assert len(kept) > 50 and kept == ours.keys() - anew
    said = capsys.readouterr().err
    assert all(word in said for word in words)
    assert all(part.rstrip(".") in said for part in parts)


def test_other_scales_keep_all_weights():
    model, tokenizer = make_infinity(), make_tokenizer(schedule=SCHEDULES["wide"])
    sizes = {"text_width": 32, "text_rows": TEXT_ROWS}
    other, anew, said = adapted(model, tokenizer, sizes, RECIPE)
    assert other.schedule == SCHEDULES["wide"] and anew == () and said == "all weights of the initial model"
    assert moved(other, model) == set()


def test_models_of_the_other_family(first, tmp_path):
    with refused("bits", "codebook"):
        tune(first, tmp_path / "run", make_codebook(SCHEDULES["square"]))


# ---- LoRA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrices", "endings"),
    [
        (("qkv", "proj", "up", "down"), (".qkv", ".proj", ".up", ".down")),
        (("query", "key_value"), (".query", ".key_value")),
        (("blocks.*.cross_attention.*",), ("cross_attention.query", "cross_attention.key_value", "attention.proj")),
    ],
)
def test_low_rank_updates_of_chosen_matrices(first, tmp_path, matrices, endings):
    pipe = tune(first, tmp_path / "run", lora=2, lora_matrices=list(matrices), ema_decay=0.0)
    changed = moved(pipe.model, make_infinity())
    assert changed and all(name.removesuffix(".weight").endswith(endings) for name in changed)
    if "*" in matrices[0]:
        assert {name.split(".")[2] for name in changed} == {"cross_attention"}
    text, inputs = make_text(*LENGTHS[:2]), torch.zeros(2, 13, DIM)
    with torch.no_grad():
        assert pipe.model(text, inputs).isfinite().all()


def test_new_parts_are_trained_in_full_beside_low_rank_updates(first, tmp_path, capsys):
    pipe = tune(first, tmp_path / "run", make_tokenizer(code_dim=8), lora=2, ema_decay=0.0)
    assert "all else frozen except the word embedding, head" in capsys.readouterr().err
    ours, before = pipe.model.state_dict(), make_infinity().state_dict()
    frozen = [name for name in ours if "cross_norm" in name or name.startswith(("text_up", "level_embedding"))]
    assert frozen and all(torch.equal(ours[name], before[name]) for name in frozen)


def test_a_new_text_encoder_is_trained_in_full_beside_low_rank_updates():
    recipe = replace(RECIPE, lora=2)
    sizes = {"words": WordsConfig(("red", "blue"), width=32, max_tokens=8), "text_width": 32, "text_rows": 8}
    model, anew, _ = adapted(make_infinity(), make_tokenizer(), sizes, recipe)
    train_low_rank(model, recipe, True, "ddp", anew)
    words = [parameter for name, parameter in model.named_parameters() if name.startswith("words.")]
    assert words and all(parameter.requires_grad for parameter in words)


def test_matrices_that_are_not_there(first, tmp_path):
    with refused("none of the matrices gate", "qkv", "key_value"):
        tune(first, tmp_path / "run", lora=2, lora_matrices=["qkv", "gate"])
    with refused("lora=2", "--init-from"):
        ns.train_transformer("halves", tmp_path / "run", make_tokenizer(), RECIPE, text_encoder=WordEncoder(), lora=2)
