"""A text encoder that is trained together with Infinity."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_captions
import torch
from processes import kill_at, two_processes
from safetensors.torch import load_file
from tiny import refused, same
from tiny_captions import (
    INTERVALS,
    LAST,
    RECIPE,
    WORDS,
    Halves,
    a_batch,
    log,
    open_halves,
    save_tokenizer,
    tensors,
    text_command,
)
from tiny_infinity import SCHEDULES, WordEncoder, make_tokenizer
from tiny_words import make_word_model

import nextscale as ns
from nextscale.conditioning.words_config import WordsConfig
from nextscale.training.changes import override, with_changes
from nextscale.training.loop import step_generator, training_step
from nextscale.training.parallel import Execution
from nextscale.training.presets.infinity import TRANSFORMERS
from nextscale.training.recipes import TextRecipe, TransformerRecipe, WordsRecipe
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.text_task import TextTask
from nextscale.training.vocabulary import captions_of, with_words

EXACT = replace(WORDS, precision="float32")
SMALL = tiny_captions.SMALL
KNOWN = ("on", "the", "blue", "bottom", "green", "left", "red", "right", "top", "white")


@pytest.fixture(autouse=True)
def captioned(monkeypatch):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)


def train(out: Path, recipe: TransformerRecipe = WORDS, **changes: Any) -> ns.Pipeline:
    return ns.train_transformer("halves", out, make_tokenizer(), recipe, **(INTERVALS | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("words") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)
        train(folder)
    return folder


def make_task(recipe: TransformerRecipe) -> TextTask:
    model = deepcopy(make_word_model())
    assert model.words is not None
    return TextTask(model, make_tokenizer(), recipe, model.words.ids)


# ---- one step --------------------------------------------------------------------------------------------------------


def test_a_step_does_not_depend_on_the_division_of_its_batch():
    recipe = replace(EXACT, label_drop=0.5, batch_size=8)
    found = []
    for parts in ([a_batch(8)], [a_batch(2, first, 8) for first in range(0, 8, 2)]):
        state = make_state(make_task(recipe), recipe, Execution(), torch.device("cpu"))
        metrics = training_step(state, parts, recipe, step=3)
        found.append(metrics | {name: p.grad for name, p in state.networks[MODEL].named_parameters()})
    assert any(name.startswith("words.") for name in found[0])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("label_drop", [0.0, 1.0])
def test_every_weight_gets_a_gradient(label_drop):
    """Also if all captions are dropped: then the text encoder's is zero."""
    task = make_task(replace(EXACT, label_drop=label_drop))
    task.losses(a_batch(4), 0, step_generator(0, 0))[0][MODEL].backward()
    words = {name: p.grad for name, p in task.model.named_parameters() if name.startswith("words.")}
    assert all(gradient is not None for gradient in words.values())
    assert any(gradient.any() for gradient in words.values()) == (label_drop == 0)


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_a_model_that_needs_no_other_encoder(run):
    pipe = ns.Pipeline.from_pretrained(run, device="cpu")
    assert pipe.words.config == WordsConfig(KNOWN, width=16, depth=1, heads=2, max_tokens=5)
    result = pipe("red on the left", seed=0)
    assert result.prompts == ["red on the left"] and result.notes == []
    assert pipe("a red zebra", seed=0).notes == ["the model does not know 2 words: 'a', 'zebra'"]
    assert pipe.model.config.text_rows == 5 and len(list((run / "previews").iterdir())) == 3
    assert json.loads((run / "recipe.json").read_text())["recipe"]["text"]["words"]["width"] == 16
    assert not (run / "text_features").exists()


@pytest.mark.long
def test_an_interrupted_run_ends_with_the_same_bits(run, tmp_path, monkeypatch):
    """It is killed, and goes on from its last checkpoint, with the vocabulary of that one."""
    command = text_command(save_tokenizer(tmp_path / "tokenizer"), tmp_path / "run", preset="tiny-words")
    kill_at(11, command, tmp_path / "run", tiny_captions.__file__)
    assert not (tmp_path / "run" / LAST).exists()
    monkeypatch.setattr("nextscale.training.vocabulary.captions_of", lambda examples: 1 / 0)
    train(tmp_path / "run")
    ours, theirs = tensors(tmp_path / "run"), tensors(run)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any("words.embedding" in name for name in ours)


@pytest.mark.parametrize(
    "changes", [{"accumulate": 2}, {"recompute": True}, {"ema_decay": 0.0}, {"workers": 1}], ids=str
)
def test_options_of_a_run(changes, tmp_path):
    exact = {"precision": "float32", "steps": 6}
    train(tmp_path / "plain", **exact)
    train(tmp_path / "other", **exact, **changes)
    ours, theirs = (torch.tensor(log(tmp_path / name, "loss")) for name in ("other", "plain"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(strategy, tmp_path):
    """With two accumulation steps each; one process goes on where they stopped."""
    tokenizer, exact = save_tokenizer(tmp_path / "tokenizer"), ("--dtype", "float32", "--steps", 10)
    command = text_command(tokenizer, tmp_path / "run", *exact, preset="tiny-words")
    two_processes([*command, "--strategy", strategy, "--accumulate", "2"], script=tiny_captions.__file__)
    train(tmp_path / "alone", precision="float32", steps=10)
    for name in ("loss", "val_loss"):
        ours, theirs = (torch.tensor(log(tmp_path / folder, name)) for folder in ("run", "alone"))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    weights = [load_file(tmp_path / each / "checkpoints/step-00000010/model.safetensors") for each in ("run", "alone")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[1])


def test_the_average_covers_the_text_encoder(tmp_path):
    pipes = [train(tmp_path / str(decay), ema_decay=decay, steps=8) for decay in (0.0, 0.9)]
    a, b = (pipe.model.state_dict() for pipe in pipes)
    changed = [name for name in a if name.startswith("words.") and not torch.equal(a[name], b[name])]
    assert "words.embedding.weight" in changed and "words.blocks.0.out.weight" in changed


@pytest.mark.long
@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_it_learns_what_the_captions_say(kind, tmp_path):
    recipe = replace(WORDS, text=TextRecipe(tokens=24, words=replace(SMALL, kind=kind, size=30)))
    quick = {"steps": 200, "learning_rate": 1e-2, "label_drop": 0.0, "validate_every": 0, "preview_every": 0}
    pipe = train(tmp_path / "run", recipe, **quick)
    task = TextTask(pipe.model, make_tokenizer(), EXACT, pipe.words.ids)
    batch = a_batch(16)
    wrong = batch._replace(captions=(*batch.captions[1:], batch.captions[0]))
    right, other = (task.validate(pipe.model, [each])["loss"] for each in (batch, wrong))
    assert right < 0.35 < other
    if kind == "subwords":
        assert pipe.words.unknown("lower left") == [] and pipe.words.unknown("zebra") == ["zebra"]


# ---- new words -------------------------------------------------------------------------------------------------------


def test_old_rows_are_kept_and_new_ones_start_from_their_mean():
    model: Any = make_word_model()
    before = model.config.words
    assert before is not None
    grown = with_words(model, replace(before, vocabulary=(*before.vocabulary, "zebra", "yak")))
    table, old = grown.words.embedding.weight, model.state_dict()["words.embedding.weight"]
    assert torch.equal(table[:-2], old) and torch.equal(table[-2], table[-1])
    torch.testing.assert_close(table[-1], old[2:].mean(dim=0))
    state = grown.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items() if "words.embedding" not in name)
    assert grown.words.ids(["a red zebra"]).ids.tolist() == [2, 3, 10, 0]
    assert with_words(model, before) is model
    inputs = torch.randn(1, SCHEDULES["square"].num_tokens - 1, model.config.bits)
    with torch.no_grad():
        assert torch.equal(*(m(m.words.ids(["a red fox"]), inputs) for m in (model, grown)))


class Striped(Halves):
    """Other words for the same images."""

    def __getitem__(self, key: tuple[int, int]) -> Any:
        example = super().__getitem__(key)
        return example._replace(caption=example.caption.replace("red", "crimson").replace("top", "upper part"))


def test_fine_tuning_adds_the_words_of_the_captions(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", lambda *_: (Striped(16), Striped(6)))
    recipe = replace(EXACT, steps=4, learning_rate=1e-5, ema_decay=0.0, text=TextRecipe(tokens=10))
    pipe = ns.train_transformer("halves", tmp_path / "run", "", recipe, init_from=str(run), **INTERVALS)
    assert pipe.words.config.vocabulary == (*KNOWN, "crimson", "part", "upper")
    assert log(tmp_path / "run", "new_words") == [["crimson", "part", "upper"]]
    assert "3 new words: crimson, part, upper" in capsys.readouterr().err
    before = ns.Pipeline.from_pretrained(run, device="cpu")
    old, new = (each.model.state_dict() for each in (before, pipe))
    for name, tensor in old.items():
        torch.testing.assert_close(new[name][: len(tensor)], tensor, atol=1e-4, rtol=0)
    assert pipe.words.config.max_tokens == 5 and pipe.words.unknown("crimson yak") == ["yak"]
    assert json.loads((tmp_path / "run/recipe.json").read_text())["recipe"]["text"]["words"]["width"] == 16
    again = ns.train_transformer("halves", tmp_path / "run", "", recipe, init_from=str(run), **INTERVALS)
    assert same(again("red", seed=1).tokens, pipe("red", seed=1).tokens)


def test_a_model_with_another_text_encoder_gets_its_own_one(tmp_path, capsys):
    """Whatever reads texts starts anew, and the rest from the weights of the model."""
    other = replace(RECIPE, steps=1, precision="float32")
    ns.train_transformer("halves", tmp_path / "t5", make_tokenizer(), other, text_encoder=WordEncoder(), **INTERVALS)
    slow = {"steps": 2, "learning_rate": 1e-6, "ema_decay": 0.0}
    pipe = train(tmp_path / "run", init_from=str(tmp_path / "t5"), **slow)
    said = capsys.readouterr().err
    assert "new random ones for" in said and "unconditional_text" in said and "(a text encoder of its own)" in said
    before = ns.Infinity.from_pretrained(tmp_path / "t5").state_dict()
    after = pipe.model.state_dict()
    torch.testing.assert_close(after["blocks.0.mlp.up.weight"], before["blocks.0.mlp.up.weight"], atol=1e-4, rtol=0)
    assert pipe.words.config.vocabulary == KNOWN and after["unconditional_text"].shape == (5, 16)


def test_low_rank_training_learns_new_words(run, tmp_path, monkeypatch):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", lambda *_: (Striped(16), Striped(6)))
    recipe = replace(EXACT, steps=3, lora=2, ema_decay=0.0, text=TextRecipe(tokens=10))
    pipe = ns.train_transformer("halves", tmp_path / "run", "", recipe, init_from=str(run), **INTERVALS)
    rows = pipe.model.state_dict()["words.embedding.weight"][-3:]
    assert not torch.equal(rows[0], rows[1]) and not torch.equal(rows[1], rows[2])  # they started equal


def test_what_is_refused(tmp_path):
    with refused("text.words", "no other text encoder"):
        train(tmp_path / "run", text_encoder=WordEncoder())
    with refused("none occurs 99 times", "10 different words"):
        train(tmp_path / "run", text={"words": {"least_count": 99}})
    with refused("unknown kind", "'letters'", "subwords"):
        WordsRecipe(kind="letters")  # type: ignore[arg-type]
    with refused("width must be a multiple of heads", "16", "3"):
        train(tmp_path / "run", text={"words": {"heads": 3}})
    assert not (tmp_path / "run").exists()


# ---- recipes ---------------------------------------------------------------------------------------------------------


def test_fields_of_the_encoder_can_be_changed():
    layer12, scenes = TRANSFORMERS["layer12"], TRANSFORMERS["scenes"]
    assert layer12.text is not None and layer12.text.words is None
    for changed in (
        override(layer12, ["text.words.width=64", "text.words.kind=subwords"]),
        with_changes(layer12, {"text": {"words": {"width": 64, "kind": "subwords"}}}),
    ):
        assert changed.text is not None and changed.text.words == WordsRecipe(kind="subwords", width=64)
    off = override(scenes, ["text.words=null"])
    assert scenes.text is not None and scenes.text.words is not None and off.text is not None and off.text.words is None


def test_captions_come_from_where_they_are_known():
    examples = Halves(4)
    assert captions_of(examples) == [f"{colour} on the left" for colour in ("red", "green", "blue", "white")]
    assert captions_of(Captioned(4)) == ["a", "b"]


class Captioned(Halves):
    def captions(self) -> list[str]:
        return ["a", "b"]
