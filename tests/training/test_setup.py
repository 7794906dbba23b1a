"""Training from Python gives the same runs as the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import refused
from tiny_runs import TOKENIZER, TRANSFORMER, train_command

import nextscale as ns
from nextscale.cli.main import main
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.changes import with_changes

EVERY: dict[str, Any] = {"log_every": 1, "save_every": 5, "validate_every": 8, "preview_every": 8}
FILES = ("model.safetensors", "state/state.safetensors")


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted((run / "checkpoints").iterdir())[-1]
    return {f"{name}/{key}": tensor for name in FILES for key, tensor in load_file(newest / name).items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_python_and_command_line_train_the_same_weights(images, tokenizer_run, var_run, tmp_path):
    tokenizer = ns.train_tokenizer(images, tmp_path / "tokenizer", preset="tiny", **EVERY)
    assert same(checkpoint(tmp_path / "tokenizer"), checkpoint(tokenizer_run))
    assert tokenizer.fingerprint() == ns.ImageTokenizer.from_pretrained(tokenizer_run).fingerprint()

    pipe = ns.train_transformer(images, tmp_path / "var", tokenizer, preset="tiny", **EVERY)
    assert same(checkpoint(tmp_path / "var"), checkpoint(var_run))
    assert pipe.class_names == ["boot", "dress"]
    for folder in ("tokenizer", "var"):
        run = {"tokenizer": tokenizer_run, "var": var_run}[folder]
        assert (tmp_path / folder / "recipe.json").read_bytes() == (run / "recipe.json").read_bytes()
        for path in (run / "previews").iterdir():
            with Image.open(path) as theirs, Image.open(tmp_path / folder / "previews" / path.name) as ours:
                assert ours.tobytes() == theirs.tobytes()


def test_the_same_call_resumes_and_another_is_refused(images, tokenizer_run, tmp_path, capsys):
    call: dict[str, Any] = {
        "data": images,
        "out": tmp_path / "run",
        "tokenizer": tokenizer_run,
        "preset": "tiny",
        "steps": 2,
    }
    ns.train_transformer(**call)
    ns.train_transformer(**call)
    assert "already finished: 2 steps" in capsys.readouterr().err
    call["steps"] = 3
    with refused("holds a run with steps 2, not 3"):
        ns.train_transformer(**call)


def test_runs_of_the_command_line_are_resumed_from_python(images, tokenizer_run, tmp_path, capsys):
    main(train_command("transformer", images, tmp_path / "run", "--tokenizer", tokenizer_run, "--steps", 2))
    ns.train_transformer(images, tmp_path / "run", tokenizer_run, preset="tiny", steps=2)
    assert "already finished" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["var", "transformer"])
def test_a_run_of_an_older_version_resumes(verb, images, tokenizer_run, tmp_path, capsys):
    """With recipe.json as it was written when the verb was ``train var`` and images were pictures."""
    run = tmp_path / "run"
    command = train_command(verb, images, run, "--tokenizer", tokenizer_run, "--steps", 2)
    main(command)
    content = json.loads((run / "recipe.json").read_text())
    assert content["inputs"]["task"] == "train transformer"
    content["inputs"]["task"] = "train var"
    content["inputs"]["number_of_pictures"] = content["inputs"].pop("number_of_images")
    (run / "recipe.json").write_text(json.dumps(content))
    capsys.readouterr()
    main(command)
    assert "already finished" in capsys.readouterr().err
    assert json.loads((run / "recipe.json").read_text()) == content
    with pytest.raises(SystemExit):
        main(train_command("tokenizer", images, run))
    assert "task train var, not train tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rte": 1.0}, ("'learning_rte'", "learning_rate")),
        ({"log_evry": 1}, ("'log_evry'", "log_every")),
        ({"steps": 0}, ("steps", "0")),
        ({"steps": 2, "epochs": 1}, ("steps or epochs", "2 steps", "1 epochs")),
        ({"epochs": -1}, ("epochs", "-1")),
        ({"model": {"chanels": 32}}, ("'chanels'", "channels")),
        ({"log_every": -1}, ("log_every", "-1")),
        ({"accumulate": 3}, ("4", "3 parts")),
        ({"preset": "tony"}, ("'tony'", "starter")),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run_has_a_folder(changes, words, images, tmp_path):
    with refused(*words):
        ns.train_tokenizer(images, tmp_path / "run", **{"preset": "tiny"} | changes)
    assert not (tmp_path / "run").exists()


def test_parts_of_a_recipe_change_by_dicts_and_records():
    changed = with_changes(TOKENIZER, {"model": {"channels": 64}, "adversarial": {"layers": 1}})
    assert changed.model.channels == 64 and changed.model.code_dim == TOKENIZER.model.code_dim
    assert changed.adversarial == AdversarialRecipe(layers=1)
    assert with_changes(changed, {"adversarial": None, "model": TOKENIZER.model}) == TOKENIZER
    with refused("no fields"):
        with_changes(TRANSFORMER, {"depth": {"x": 1}})


def test_a_recipe_is_a_preset(images, tmp_path):
    ns.train_tokenizer(images, tmp_path / "run", preset=TOKENIZER, steps=1, batch_size=2)
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert recipe["learning_rate"] == TOKENIZER.learning_rate / 2
