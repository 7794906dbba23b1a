"""InfinityStar through the trainer: what a step computes, whole runs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import refused
from tiny_clips import (
    INTERVALS,
    RECIPE,
    SCHEDULE,
    RandomLatents,
    a_batch,
    log,
    make_task,
    make_tokenizer,
    open_latents,
    tensors,
    with_video,
)
from tiny_star import make_model

import nextscale as ns
from nextscale.data.content import Latents, Tokens
from nextscale.data.loader import collate
from nextscale.training.loop import step_generator, training_step
from nextscale.training.parallel import Execution
from nextscale.training.recipes import VideoRecipe
from nextscale.training.setup import plan
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.transformer_setup import run_transformer
from nextscale.training.video_task import VideoTask
from nextscale.training.visit_choice import choose_scales, one_of_each
from nextscale.transformer.token_loss import token_losses
from nextscale.workflows.train import preview_samples


def train(out: Path, recipe: Any = RECIPE, **changes: Any) -> None:
    tokenizer = changes.pop("tokenizer", None) or make_tokenizer()
    recipe, settings = plan({}, recipe, INTERVALS | changes, out)
    run_transformer("halves", out, tokenizer, recipe, settings, samples=preview_samples)


@pytest.fixture(autouse=True)
def captioned(monkeypatch):
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", open_latents)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("star") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.transformer_setup.open_examples", open_latents)
        train(folder)
    return folder


# ---- one step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scale", "token"])
def test_validation_is_the_plain_loss_of_the_last_visits(kind):
    task, batch, schedule = make_task(loss_weights=kind), a_batch(), SCHEDULE
    figures = task.validate(task.model, [batch])
    tokenizer = make_tokenizer()
    bits = tokenizer.encode(batch.images, schedule)
    visits, inputs = one_of_each(schedule, range(6)), []

    def choose(visit, canvas):
        if visit in visits:
            inputs.append(tokenizer.pyramid.look(canvas, visit))
        return tokenizer.pyramid.quantizer(visit).codes(bits[visit.index])

    list(tokenizer.pyramid.walk(choose, tokenizer.pyramid.empty_canvas(4), schedule))
    with torch.no_grad():
        found = task.model(task.texts(batch), torch.cat(inputs, 1), visits)
    means = [token_losses(x, bits[v.index].long()).loss.mean() for v, x in zip(visits, found, strict=True)]
    assert figures["scale_loss"] == pytest.approx([mean.item() for mean in means], rel=1e-5)
    counts = torch.tensor([visit.num_tokens for visit in visits])
    weights = counts * (12 / counts) ** 0.2 if kind == "scale" else counts
    assert figures["loss"] == pytest.approx(((torch.stack(means) * weights).sum() / weights.sum()).item(), rel=1e-5)


def test_a_step_does_not_depend_on_the_division_of_its_batch():
    """Text drop and flips included. Text drop of 0.5, so that some are dropped."""
    recipe = replace(RECIPE, label_drop=0.5, batch_size=8)
    found = []
    for parts in ([a_batch(8)], [a_batch(2, first, 8) for first in range(0, 8, 2)]):
        state = make_state(make_task(recipe), recipe, Execution(), torch.device("cpu"))
        found.append(training_step(state, parts, recipe, step=3))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4)


def test_visits_and_flips_are_those_of_the_step():
    task, batch = make_task(), a_batch()

    def loss(task: VideoTask, step: int) -> torch.Tensor:
        return task.losses(batch, step, step_generator(0, step))[0][MODEL].detach()

    assert torch.equal(loss(task, 1), loss(task, 1)) and not torch.equal(loss(task, 1), loss(task, 2))
    assert not torch.equal(loss(make_task(self_correction=0.0), 1), loss(task, 1))
    generator = torch.Generator().manual_seed(0)
    chosen = [task.chosen(generator) for _ in range(40)]
    assert {visit.index for visits in chosen for visit in visits} == set(range(8))
    assert all([visit.scale for visit in visits] == list(range(6)) for visits in chosen)


def test_latents_instead_of_videos():
    task, batch = make_task(), a_batch()
    latents = batch._replace(content=Latents(make_tokenizer().encode_latents(batch.images)))
    losses = [task.losses(each, 0, step_generator(0, 0))[0][MODEL] for each in (batch, latents)]
    assert torch.equal(*losses)
    with refused("videos or latents", "Tokens"):
        task.latents(batch._replace(content=Tokens(torch.zeros(1))))


def test_metrics_of_scales_that_are_not_trained():
    task = make_task()
    visits = one_of_each(SCHEDULE, [0, 2, 4])
    text, inputs = task.texts(a_batch()), torch.zeros(4, sum(v.num_tokens for v in visits), 64)
    bits = [torch.zeros(4, v.num_tokens, (16, 64)[v.quantizer], dtype=torch.long) for v in visits]
    losses = [token_losses(x, b) for x, b in zip(task.model(text, inputs, visits), bits, strict=True)]
    assert task.metrics_of(visits, losses)["scale_loss"].isnan().tolist() == [k not in (0, 2, 4) for k in range(6)]


def test_subsets_need_the_released_scales():
    official = ns.ScaleSchedule.spacetime("0.40M", seconds=5)
    generator = torch.Generator().manual_seed(0)
    sizes = {len(list(choose_scales(official, "480p", generator))) for _ in range(100)}
    assert {14, 22, 25, 26} <= sizes
    image = ns.ScaleSchedule.spacetime("0.40M", seconds=0)
    assert list(choose_scales(image, "480p", generator)) == list(range(14))
    with refused("480p", "14 scales", 3):
        make_task(with_video(RECIPE, subsets="480p"))
    with refused("720p", "15 scales", 14):
        choose_scales(official, "720p", generator)
    with refused("subsets", "all, 480p", "none"):
        VideoRecipe(subsets="none")  # type: ignore[arg-type]


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_run(run):
    assert len(list((run / "previews").iterdir())) == 3
    assert len(log(run, "loss")) == RECIPE.steps and len(log(run, "scale_token_accuracy")[0]) == 6
    assert log(run, "val_loss")[-1] < log(run, "val_loss")[0]
    recorded = json.loads((run / "recipe.json").read_text())
    assert recorded["recipe"]["video"]["kv_heads"] == 2
    assert json.loads((run / "pipeline.json").read_text())["family"] == ns_family()
    model = ns.InfinityStar.from_pretrained(run)
    assert model.config.words and model.config.kv_heads == 2 and model.config.text_rows == 4
    assert ns.VideoTokenizer.from_pretrained(run / "tokenizer").fingerprint() == make_tokenizer().fingerprint()


def ns_family() -> str:
    from nextscale.families.infinity_star import FAMILY

    return FAMILY.name


def test_a_run_is_a_pipeline(tmp_path):
    pipe = ns.train_transformer("halves", tmp_path / "run", make_tokenizer(), RECIPE, **INTERVALS, steps=1)
    assert pipe.family.name == "infinity-star"
    result = pipe("red moves left", seed=0, cfg=3.0, guidance="cfg")
    assert result.videos[0].frames.shape == (9, 32, 48, 3)


def test_an_interrupted_run_ends_with_the_same_bits(run, tmp_path, monkeypatch):
    """It goes on from its last checkpoint, that of step 10."""

    class Breaking(RandomLatents):
        reads = 0

        def __getitem__(self, key):
            Breaking.reads += 1
            if Breaking.reads > 80:  # at step 12: the captions were read before the first
                raise RuntimeError("the disk is gone")
            return super().__getitem__(key)

    with monkeypatch.context() as patch:
        broken = Breaking(16), None
        patch.setattr("nextscale.training.transformer_setup.open_examples", lambda *_: broken)
        with pytest.raises(RuntimeError, match="disk"):
            train(tmp_path / "run", preview_every=0)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "step-00000010"
    train(tmp_path / "run")
    ours, theirs = tensors(tmp_path / "run"), tensors(run)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"recompute": True}], ids=str)
def test_options_of_a_run(changes, tmp_path):
    train(tmp_path / "plain", steps=4)
    train(tmp_path / "other", steps=4, **changes)
    ours, theirs = (torch.tensor(log(tmp_path / name, "loss")) for name in ("other", "plain"))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_it_learns_what_the_captions_say(tmp_path, monkeypatch):
    """The loss of the videos with the captions of others is far larger."""
    rare = dict.fromkeys(INTERVALS, 0)
    four = RandomLatents(4), None
    monkeypatch.setattr("nextscale.training.transformer_setup.open_examples", lambda *_: four)
    train(tmp_path / "run", steps=80, learning_rate=1e-2, label_drop=0.0, text={"self_correction": 0.0}, **rare)
    model = ns.InfinityStar.from_pretrained(tmp_path / "run")
    assert model.words
    task = make_task(model=model, read=model.words.ids)
    batch = collate([RandomLatents(16)[0, i] for i in range(4)])
    wrong = batch._replace(captions=(*batch.captions[1:], batch.captions[0]))
    right, other = (task.validate(model, [each])["loss"] for each in (batch, wrong))
    print(right, other)
    assert right < 0.8 * other


def test_fine_tuning(run, tmp_path):
    """All weights are kept with the same tokenizer; with other semantic bits, those of the bits are new."""
    before = ns.InfinityStar.from_pretrained(run).state_dict()
    train(tmp_path / "same", steps=1, learning_rate=1e-12, init_from=str(run), ema_decay=0.0)
    after = ns.InfinityStar.from_pretrained(tmp_path / "same").state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)
    config = replace(make_tokenizer().config, semantic_bits=32)
    train(tmp_path / "other", steps=1, learning_rate=1e-12, init_from=str(run), tokenizer=ns.VideoTokenizer(config))
    after = ns.InfinityStar.from_pretrained(tmp_path / "other").state_dict()
    assert after["semantic_head.weight"].shape == (64, 32)
    assert not after["word_embedding.weight"].equal(before["word_embedding.weight"])


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_bad_input(tmp_path, run):
    from tiny_infinity import make_tokenizer as make_image_tokenizer

    with refused("drop_path", 0.1):
        train(tmp_path / "run", drop_path=0.1)
    with refused("video", "image tokenizer"):
        train(tmp_path / "run", tokenizer=make_image_tokenizer(), heads=2)
    with refused("InfinityStar", "Infinity"):
        train(tmp_path / "run", with_video(RECIPE, kv_heads=0), tokenizer=make_image_tokenizer(), init_from=str(run))
    with refused("captions", "none"):
        make_task().token_loss(make_model(), make_model().logits, a_batch()._replace(captions=()))
