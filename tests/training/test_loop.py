"""The training loop: losses decrease, runs keep their files, and errors are one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import refused
from tiny_runs import SIZE, TOKENIZER, TRANSFORMER, make_images, make_splits, train_command

import nextscale as ns
import nextscale.io.checkpoint
from nextscale.cli.main import main
from nextscale.data.dataset import ImageDataset
from nextscale.data.folder import scan_folder
from nextscale.data.loader import TrainingBatches
from nextscale.data.splits import open_image_splits
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
from nextscale.training.loop import Intervals, train, training_step
from nextscale.training.optimizer import LossScaler, set_step
from nextscale.training.parallel import Execution
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.run import Run
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.tokenizer_task import TokenizerTask
from nextscale.training.transformer_task import TransformerTask

CPU = torch.device("cpu")


def var_task(recipe: TransformerRecipe = TRANSFORMER, kind: type[TransformerTask] = TransformerTask) -> TransformerTask:
    tokenizer = ns.ImageTokenizer(TOKENIZER.model).init_weights(torch.Generator().manual_seed(0))
    config = ns.VARConfig(TOKENIZER.model.schedule, 2, 32, 2, num_classes=2, codebook_size=24, code_dim=8)
    return kind(ns.VAR(config).init_weights(torch.Generator().manual_seed(0), 0.1), tokenizer, recipe)


def tokenizer_task() -> TokenizerTask:
    return TokenizerTask(ns.ImageTokenizer(TOKENIZER.model).init_weights(torch.Generator().manual_seed(0)), TOKENIZER)


def open_training(root: Path) -> ImageDataset:
    return open_image_splits(root, SIZE, seed=0)[0]


def read_log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("make_task", [tokenizer_task, var_task])
def test_the_loss_falls_on_a_repeated_batch(make_task, images):
    task = make_task()
    recipe = replace(task.recipe, steps=60, learning_rate=3e-3, precision="float32")
    parts = next(TrainingBatches(open_training(images), 4, 0))
    state = make_state(task, recipe, Execution(), CPU)
    losses = []
    for step in range(recipe.steps):
        set_step(state.optimizers[MODEL], recipe, step)
        losses.append(training_step(state, parts, recipe, step)["loss"].item())
    assert losses[-1] < 0.7 * losses[0]


def test_log(tokenizer_run, var_run):
    for run, recipe in ((tokenizer_run, TOKENIZER), (var_run, TRANSFORMER)):
        lines = [line for line in read_log(run) if "loss" in line]
        assert [line["step"] for line in lines] == list(range(1, recipe.steps + 1))
        for line in lines:
            assert {"learning_rate", "images_per_second", "grad_norm"} <= line.keys()
            assert line["images_per_second"] > 0
    for line in lines:
        assert len(line["scale_loss"]) == len(line["scale_accuracy"]) == TOKENIZER.model.schedule.num_scales
        assert 0 <= min(line["scale_accuracy"]) <= max(line["scale_accuracy"]) <= 1


def test_validation_is_logged(tokenizer_run, var_run):
    for run, names in ((tokenizer_run, {"val_psnr", "val_usage"}), (var_run, {"val_loss", "val_scale_loss"})):
        lines = [line for line in read_log(run) if any(name.startswith("val_") for name in line)]
        assert [line["step"] for line in lines] == [8, 16, 24]
        for line in lines:
            assert names <= line.keys()


def test_previews_and_events(tokenizer_run, var_run):
    for run in (tokenizer_run, var_run):
        previews = sorted((run / "previews").iterdir())
        assert [path.name for path in previews] == [f"step-{step:08d}.png" for step in (8, 16, 24)]
        for path in previews:
            with Image.open(path) as image:
                image.verify()
        assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_the_newest_two_checkpoints_are_kept(tokenizer_run, var_run):
    for run in (tokenizer_run, var_run):
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000020", "step-00000024"]


def test_a_tokenizer_run_loads(tokenizer_run):
    newest = load_file(tokenizer_run / "checkpoints" / "step-00000024" / "model.safetensors")
    loaded = ns.ImageTokenizer.from_pretrained(tokenizer_run).state_dict()
    assert loaded.keys() == newest.keys()
    assert all(torch.equal(loaded[name], newest[name]) for name in newest)


def test_a_var_run_loads_as_a_pipeline(tokenizer_run, var_run):
    newest = load_file(var_run / "checkpoints" / "step-00000024" / "model.safetensors")
    pipeline = ns.Pipeline.from_pretrained(var_run)
    assert pipeline.class_names == ["boot", "dress"]
    for ours, theirs in (
        (pipeline.model.state_dict(), newest),
        (pipeline.tokenizer.state_dict(), ns.ImageTokenizer.from_pretrained(tokenizer_run).state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert pipeline(["Dress"], seed=1).images[0].size == SIZE


def test_the_weights_of_a_run_are_the_ema(var_run):
    state = load_file(var_run / "checkpoints" / "step-00000024" / "state" / "state.safetensors")
    ema = ns.VAR.from_pretrained(var_run).state_dict()
    assert any(not torch.equal(ema[name], state[f"model/{name}"]) for name in ema)


def test_a_finished_run_says_so(images, tokenizer_run, capsys):
    before = files_of(tokenizer_run / "checkpoints") | {"log": (tokenizer_run / "log.jsonl").read_bytes()}
    main(train_command("tokenizer", images, tokenizer_run))
    assert "finished" in capsys.readouterr().err
    assert files_of(tokenizer_run / "checkpoints") | {"log": (tokenizer_run / "log.jsonl").read_bytes()} == before


@pytest.mark.parametrize(
    "change", [("--learning-rate", "0.5"), ("--seed", "1"), ("--steps", "30"), ("--batch-size", "2")]
)
def test_another_recipe_in_the_same_folder(change, images, tokenizer_run, capsys):
    before = files_of(tokenizer_run)
    with pytest.raises(SystemExit) as stopped:
        main([*train_command("tokenizer", images, tokenizer_run), *change])
    assert stopped.value.code == 2
    assert change[0].strip("-").replace("-", "_") in capsys.readouterr().err
    assert files_of(tokenizer_run) == before


def test_other_data_in_the_same_folder(tmp_path, tokenizer_run, capsys):
    other = make_images(tmp_path / "other", 4)
    with pytest.raises(SystemExit) as stopped:
        main(train_command("tokenizer", other, tokenizer_run))
    assert stopped.value.code == 2
    assert "data" in capsys.readouterr().err


class BreaksAt(TransformerTask):
    """Not a number from the eighth batch on."""

    count = 0

    def losses(self, batch, step, generator):
        losses, metrics = super().losses(batch, step, generator)
        self.count += 1
        return ({MODEL: losses[MODEL] * float("nan")} if self.count >= 8 else losses), metrics


def test_a_loss_that_is_not_finite_stops_the_run(images, tmp_path):
    task = var_task(kind=BreaksAt)
    run = Run(tmp_path / "run", TRANSFORMER, {})
    with refused("not finite", "step 8"):
        train(task, open_training(images), None, TRANSFORMER, run, Intervals(save_every=3), CPU)
    run.close()
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None and newest.name == "step-00000006"
    assert all(tensor.isfinite().all() for tensor in load_file(newest / "model.safetensors").values())


def test_a_rate_that_is_too_large_ends_in_one_sentence(images, tokenizer_run, tmp_path, capsys):
    run = tmp_path / "run"
    more = ("--tokenizer", tokenizer_run, "--learning-rate", 1e30, "--save-every", 1)
    stopped_with(train_command("var", images, run, *more))
    *_, last = capsys.readouterr().err.splitlines()
    newest = newest_checkpoint(run)
    assert newest is not None and "not finite at step" in last
    assert f"step {checkpoint_step(newest) + 1}:" in last
    assert all(tensor.isfinite().all() for tensor in load_file(newest / "model.safetensors").values())


def test_a_full_disk_ends_in_one_sentence(images, tmp_path, capsys, monkeypatch):
    works, calls = nextscale.io.checkpoint.write_tensors, []

    def write(path: Path, tensors: dict) -> None:
        calls.append(path)
        if len(calls) > 2:  # the first checkpoint takes two
            raise OSError(28, "No space left on device")
        works(path, tensors)

    monkeypatch.setattr(nextscale.io.checkpoint, "write_tensors", write)
    stopped_with(train_command("tokenizer", images, tmp_path / "run"))
    *_, last = capsys.readouterr().err.splitlines()
    assert "cannot write a checkpoint" in last and "No space left" in last
    newest = newest_checkpoint(tmp_path / "run")
    assert newest is not None and newest.name == "step-00000005"


def test_a_loss_that_is_not_finite_moves_no_weight(images):
    class Breaks(BreaksAt):
        count = 7

    task = var_task(kind=Breaks)
    state = make_state(task, TRANSFORMER, Execution(), CPU)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    with refused("step 6"):
        training_step(state, next(TrainingBatches(open_training(images), 4, 0)), TRANSFORMER, 5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def test_scaling_the_loss_changes_nothing_but_for_overflow(images):
    """The scale is a power of two, so that what it multiplies is not rounded."""
    recipe, weights = replace(TRANSFORMER, precision="float32"), []
    parts = next(TrainingBatches(open_training(images), 4, 0))
    for enabled in (False, True):
        state = replace(make_state(var_task(recipe), recipe, Execution(), CPU), scaler=LossScaler(CPU, enabled))
        for step in range(3):
            training_step(state, parts, recipe, step)
        weights.append({name: tensor.clone() for name, tensor in state.networks[MODEL].state_dict().items()})
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_a_step_with_an_overflow_is_left_out(images):
    recipe = replace(TRANSFORMER, precision="float32")
    parts = next(TrainingBatches(open_training(images), 4, 0))
    state = replace(make_state(var_task(recipe), recipe, Execution(), CPU), scaler=LossScaler(CPU, True))
    model = state.networks[MODEL]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (first, *_) = model.parameters()
    handle = first.register_hook(lambda gradient: gradient * float("inf"))
    metrics = training_step(state, parts, recipe, 0)
    assert "grad_norm" not in metrics and metrics["loss"].isfinite()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert state.scaler.factor.tolist() == [2.0**10, 0]
    handle.remove()
    assert "grad_norm" in training_step(state, parts, recipe, 1)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_unreadable_images_are_counted_and_named(tmp_path, capsys):
    folder = make_images(tmp_path / "data", 8)
    for name in ("2.png", "5.png"):
        (folder / name).write_bytes(b"no image")
    recipe = replace(TRANSFORMER, steps=4)
    run = Run(tmp_path / "run", recipe, {})
    train(var_task(recipe), open_training(folder), None, recipe, run, Intervals(), CPU)
    named = [line["unreadable"] for line in read_log(tmp_path / "run") if "unreadable" in line]
    assert len(named) == 2
    assert all(any(name in line for line in named) for name in ("2.png", "5.png"))
    assert "2 so far" in capsys.readouterr().err


def test_a_batch_larger_than_the_data(tmp_path):
    data = open_training(make_images(tmp_path / "data", 3))
    with refused("batch of 4", "3"):
        train(var_task(), data, None, TRANSFORMER, Run(tmp_path / "run", TRANSFORMER, {}), Intervals(), CPU)


def test_unreadable_validation_images_are_left_out_and_named(tmp_path):
    """The figures are those of the readable images alone."""
    data = open_training(make_images(tmp_path / "data", 8))
    recipe = replace(TRANSFORMER, steps=1)
    figures = []
    for i, names in enumerate(((), ("x.png",))):
        val = make_images(tmp_path / f"val{i}", 5)
        for name in names:
            (val / name).write_bytes(b"no image")
        run = Run(tmp_path / f"run{i}", recipe, {})
        val_data = ImageDataset(scan_folder(val), SIZE, augment=False)
        train(var_task(recipe), data, val_data, recipe, run, Intervals(), CPU)
        lines = read_log(run.folder)
        figures.append([line for line in lines if "val_loss" in line])
        assert [line["unreadable"].count("x.png") for line in lines if "unreadable" in line] == [1] * len(names)
    assert figures[0] == figures[1]


def stopped_with(arguments: list[str]) -> None:
    """The command refuses."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("change", ["another class", "another name", "another image"])
def test_a_run_is_not_resumed_with_other_data(change, tmp_path, tokenizer_run, capsys):
    data, run = make_splits(tmp_path / "data"), tmp_path / "run"
    command = train_command("var", data, run, "--tokenizer", tokenizer_run, "--steps", "2")
    main(command)
    if change == "another class":
        make_images(data / "train" / "hat", 2)
    elif change == "another name":
        for split in ("train", "val"):
            (data / split / "boot").rename(data / split / "zebra")
    else:
        (data / "train" / "boot" / "0.png").unlink()
    before = files_of(run)
    stopped_with(command)
    assert "holds a run with" in capsys.readouterr().err
    assert files_of(run) == before


def test_a_run_does_not_take_the_folder_of_a_model(var_run, images, tokenizer_run, tmp_path, capsys):
    ns.Pipeline.from_pretrained(var_run).save_pretrained(tmp_path / "model")
    before = files_of(tmp_path / "model")
    stopped_with(train_command("var", images, tmp_path / "model", "--tokenizer", tokenizer_run))
    assert "holds a model" in capsys.readouterr().err
    assert files_of(tmp_path / "model") == before


def test_a_run_does_not_lie_in_its_data(images, capsys):
    before = files_of(images)
    stopped_with(train_command("tokenizer", images, images / "train" / "run"))
    assert "must not lie in the data" in capsys.readouterr().err
    assert files_of(images) == before
