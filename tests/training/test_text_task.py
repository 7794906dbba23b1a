"""Infinity through the trainer: what a step computes, whole runs, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_captions
import torch
from processes import kill_at
from tiny import refused
from tiny_captions import (
    INTERVALS,
    LAST,
    RECIPE,
    Halves,
    a_batch,
    log,
    open_halves,
    save_tokenizer,
    tensors,
    text_command,
    with_text,
)
from tiny_infinity import DIM, SCHEDULES, TEXT_WIDTH, WordEncoder, make_infinity, make_tokenizer

import nextscale as ns
from nextscale.data.content import Tokens
from nextscale.training.loop import step_generator, training_step
from nextscale.training.losses import scale_weights
from nextscale.training.parallel import Execution
from nextscale.training.recipes import TextRecipe
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.text_task import TextTask
from nextscale.transformer.token_loss import token_losses

EXACT = replace(RECIPE, precision="float32")


def make_task(**text: Any) -> TextTask:
    return TextTask(deepcopy(make_infinity()), make_tokenizer(), with_text(EXACT, **text), WordEncoder().encode)


@pytest.fixture(autouse=True)
def captioned(monkeypatch):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)


def train(out: Path, tokenizer: Any = None, **changes: Any) -> ns.Pipeline:
    encoder = changes.pop("text_encoder", None) or WordEncoder()
    tokenizer = make_tokenizer() if tokenizer is None else tokenizer
    return ns.train_transformer("halves", out, tokenizer, RECIPE, text_encoder=encoder, **(INTERVALS | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("infinity") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)
        train(folder)
    return folder


# ---- one step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scale", "token"])
def test_validation_is_the_plain_loss(kind):
    task, schedule, batch = make_task(loss_weights=kind), SCHEDULES["square"], a_batch()
    figures = task.validate(task.model, [batch])
    tokens = make_tokenizer().encode(batch.images)
    text = WordEncoder().encode(batch.captions)
    with torch.no_grad():
        losses = token_losses(
            task.model(text, make_tokenizer().teacher_forcing_input(tokens)), torch.cat(tokens, dim=1).long()
        )
    weights = scale_weights(schedule) if kind == "scale" else torch.full((schedule.num_tokens,), 1 / 14)
    assert figures["loss"] == pytest.approx((losses.loss * weights).sum(1).mean().item(), rel=1e-5)
    last = losses.correct[:, schedule.slices[-1]]
    assert figures["scale_accuracy"][-1] == pytest.approx(last.float().mean().item())
    assert figures["scale_token_accuracy"][-1] == pytest.approx(last.all(-1).float().mean().item())


def test_weights_of_scales_sum_to_one_and_favour_the_coarse():
    weights = scale_weights(SCHEDULES["wide"])
    sums = [weights[part].sum().item() for part in SCHEDULES["wide"].slices]
    assert sum(sums) == pytest.approx(1)
    assert sums[2] / sums[0] == pytest.approx(15**0.5) and weights[0] / weights[-1] == pytest.approx(15**0.5)


def test_a_step_does_not_depend_on_the_division_of_its_batch():
    """Text drop, drop path and flips included. Text drop of 0.5, so that some are dropped."""
    recipe = replace(EXACT, label_drop=0.5, batch_size=8)
    found = []
    for parts in ([a_batch(8)], [a_batch(2, first, 8) for first in range(0, 8, 2)]):
        task = TextTask(deepcopy(make_infinity()), make_tokenizer(), recipe, WordEncoder().encode)
        state = make_state(task, recipe, Execution(), torch.device("cpu"))
        found.append(training_step(state, parts, recipe, step=3))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)


def test_noise_is_that_of_the_step():
    task, batch = make_task(), a_batch()

    def loss(task: TextTask, step: int) -> torch.Tensor:
        return task.losses(batch, step, step_generator(0, step))[0][MODEL].detach()

    assert torch.equal(loss(task, 1), loss(task, 1)) and not torch.equal(loss(task, 1), loss(task, 2))
    clean = make_task(self_correction=0.0)
    assert clean.flips(batch, SCHEDULES["square"], torch.Generator()) == []
    assert not torch.equal(loss(clean, 1), loss(task, 1))


def test_a_dropped_caption_has_no_influence():
    recipe = replace(EXACT, label_drop=1.0)
    task = TextTask(make_infinity(), make_tokenizer(), recipe, WordEncoder().encode)
    batch = a_batch()
    other = batch._replace(captions=tuple(caption.replace("red", "pink") for caption in batch.captions))
    losses = [task.losses(each, 0, step_generator(0, 0))[0][MODEL] for each in (batch, other)]
    assert torch.equal(*losses)


def test_every_weight_gets_a_gradient_even_if_no_caption_is_dropped():
    recipe = replace(EXACT, label_drop=0.0)
    task = TextTask(deepcopy(make_infinity()), make_tokenizer(), recipe, WordEncoder().encode)
    task.losses(a_batch(), 0, step_generator(0, 0))[0][MODEL].backward()
    assert all(p.grad is not None for p in task.model.parameters())
    assert not task.model.unconditional_text.grad.any()


def test_bits_instead_of_pixels():
    """Without self-correction they give the same loss."""
    task, batch = make_task(self_correction=0.0), a_batch()
    bits = batch._replace(content=Tokens(torch.cat(make_tokenizer().encode(batch.images), dim=1)))
    assert bits.content.values.dtype == torch.bool and bits.content.values.shape == (4, 14, DIM)
    losses = [task.losses(each, 0, step_generator(0, 0))[0][MODEL] for each in (batch, bits)]
    assert torch.equal(*losses)


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_run_is_a_model(run):
    pipe = ns.Pipeline.from_pretrained(run, text_encoder=WordEncoder())
    assert pipe.family.name == "infinity"
    result = pipe("red on the left", seed=0)
    assert result.images[0].size == (12, 12) and result.prompts == ["red on the left"]
    assert pipe.model.config.bits == DIM and pipe.model.config.text_width == TEXT_WIDTH
    assert len(list((run / "previews").iterdir())) == 3
    assert len(log(run, "loss")) == RECIPE.steps and len(log(run, "scale_token_accuracy")[0]) == 3
    assert log(run, "val_loss")[-1] < log(run, "val_loss")[0]
    recorded = json.loads((run / "recipe.json").read_text())
    assert recorded["recipe"]["text"]["tokens"] == 6 and recorded["inputs"]["text_encoder"] == "words"


def test_an_interrupted_run_ends_with_the_same_bits(run, tmp_path):
    """It is killed, and goes on from its last checkpoint."""
    command = text_command(save_tokenizer(tmp_path / "tokenizer"), tmp_path / "run")
    kill_at(11, command, tmp_path / "run", tiny_captions.__file__)
    assert not (tmp_path / "run" / LAST).exists()
    encoder = WordEncoder()
    train(tmp_path / "run", text_encoder=encoder)
    assert encoder.encoded == []  # the features of all captions are kept in the run
    ours, theirs = tensors(tmp_path / "run"), tensors(run)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"recompute": True}, {"ema_decay": 0.0}], ids=str)
def test_options_of_a_run(changes, tmp_path):
    exact = {"precision": "float32", "steps": 6}
    train(tmp_path / "plain", **exact)
    train(tmp_path / "other", **exact, **changes)
    ours, theirs = (torch.tensor(log(tmp_path / name, "loss")) for name in ("other", "plain"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_it_learns_what_the_captions_say(tmp_path):
    """The loss of the images with the captions of others is far larger."""
    rare = dict.fromkeys(INTERVALS, 0)
    pipe = train(tmp_path / "run", steps=80, learning_rate=1e-2, precision="float32", label_drop=0.0, **rare)
    task = TextTask(pipe.model, make_tokenizer(), EXACT, WordEncoder().encode)
    batch = a_batch(16)
    wrong = batch._replace(captions=(*batch.captions[1:], batch.captions[0]))
    right, other = (task.validate(pipe.model, [each])["loss"] for each in (batch, wrong))
    print(right, other)
    assert right < 0.35 < other


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_data_without_captions(tmp_path, monkeypatch):
    monkeypatch.setattr(Halves, "__getitem__", lambda self, key: examples_without_caption(key))
    with refused("halves", "no captions"):
        train(tmp_path / "run")


def examples_without_caption(key: tuple[int, int]) -> Any:
    from nextscale.data.content import Pixels
    from nextscale.data.dataset import Example

    return Example(Pixels(torch.zeros(3, 12, 12)), 0, ())


def test_options_of_the_other_family(tmp_path):
    from tiny import make_tokenizer as make_codebook

    with refused("keep-classes", "text-to-image"):
        train(tmp_path / "run", keep_classes=True)
    with refused("text encoder", "bitwise tokenizer"):
        train(tmp_path / "run", make_codebook(ns.ScaleSchedule.square((1, 2, 3))))
    with refused("text", "codebook"):
        ns.train_transformer("halves", tmp_path / "run", make_codebook(SCHEDULES["square"]), RECIPE)
    with refused("loss_weights", "area"):
        TextRecipe(loss_weights="area")  # type: ignore[arg-type]
