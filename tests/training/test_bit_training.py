"""Training of bitwise tokenizers."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import random_images, refused
from tiny_runs import BITS, INTERVALS, TOKENIZER

import nextscale as ns
from nextscale.cli.main import main
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.critics.make import make_critic
from nextscale.training.presets import TOKENIZERS
from nextscale.training.scale_dropout import random_scales
from nextscale.training.task import MODEL
from nextscale.training.tokenizer_task import CRITIC, TokenizerTask

LAST = f"checkpoints/step-{BITS.steps:08d}"
EXACT = ("--dtype", "float32")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_task(game: AdversarialRecipe | None = None, **changes) -> TokenizerTask:
    recipe = replace(BITS, precision="float32", adversarial=game, **changes)
    model = ns.ImageTokenizer(recipe.model).init_weights(seeded())
    return TokenizerTask(model, recipe, make_critic(game, seeded()) if game else None)


def batch_of(task: TokenizerTask, count: int = 4) -> Batch:
    return Batch(Pixels(random_images(task.model, count)), torch.zeros(count), (), BatchSlice(0, count, count))


def command(images: Path, run: Path, *more: object) -> list[str]:
    intervals = ("tiny-bits" if word == "tiny" else word for word in INTERVALS)
    return ["train", "tokenizer", "--data", str(images), "--out", str(run), *intervals, *map(str, more)]


def logged(run: Path, name: str) -> list:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bits") / "run"
    main(command(images, folder, *EXACT))
    return folder


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_run_logs_the_share_of_ones_and_the_entropy_of_bits(run):
    scales = BITS.model.schedule.num_scales
    for name in ("ones", "bit_entropy", "val_ones", "val_bit_entropy", "val_scale_psnr"):
        values = torch.tensor(logged(run, name))
        assert values.shape[1] == scales and values.isfinite().all()
        if "psnr" not in name:
            assert 0 <= values.min() <= values.max() <= 1
    assert len(logged(run, "val_stuck_bits")) == 3
    losses = torch.tensor(logged(run, "loss"))
    assert losses[-6:].mean() < losses[:6].mean()
    for name in ("usage", "perplexity", "restarted_codes", "val_unused_codes"):
        assert not logged(run, name)


def test_the_result_reconstructs_images(run, images, tmp_path, capsys):
    image = next(images.rglob("*.png"))
    main(["reconstruct", "--model", str(run), str(image), "--out", str(tmp_path / "a.png")])
    assert " dB" in capsys.readouterr().out
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > BITS.model.schedule.num_scales * 8
    tokenizer = ns.ImageTokenizer.from_pretrained(run)
    assert tokenizer.config == BITS.model
    assert all(bits.dtype == torch.bool for bits in tokenizer.encode(random_images(tokenizer)))


def test_resumed_equals_uninterrupted(run, images, tmp_path, capsys):
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    shutil.rmtree(resumed / LAST)
    main(command(images, resumed, *EXACT))
    assert "resuming" in capsys.readouterr().err
    for name in ("model.safetensors", "state/state.safetensors"):
        ours, theirs = load_file(resumed / LAST / name), load_file(run / LAST / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert logged(resumed, "ones") == logged(run, "ones")


def test_accumulation_changes_nothing(run, images, tmp_path):
    """Also not with entropy losses: the mean bit is that of `diversity_images` images."""
    main(command(images, tmp_path / "run", *EXACT, "--accumulate", 4))
    close = {"loss": 1e-5, "ones": 1e-5, "bit_entropy": 1e-5, "diversity": 2e-3, "val_psnr": 2e-4}
    for name, atol in close.items():
        ours, theirs = (torch.tensor(logged(folder, name), dtype=torch.float64) for folder in (tmp_path / "run", run))
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def test_a_trained_tokenizer_is_trained_on(run, images, tmp_path):
    tokenizer = ns.train_tokenizer(images, tmp_path / "run", BITS, init_from=str(run), steps=1, learning_rate=1e-9)
    before = ns.ImageTokenizer.from_pretrained(run).state_dict()
    for name, tensor in tokenizer.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=0)


# ---- losses ------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_its_weighted_terms():
    task = make_task(
        AdversarialRecipe(channels=8, layers=1, feature_matching=0.1, start=0.0, warmup=0.0),
        quantizer_weight=4.0,
        entropy=0.3,
        diversity=0.5,
    )
    losses, metrics = task.losses(batch_of(task), 3, seeded())
    quantizer = 0.25 * metrics["commitment"] + 0.3 * (metrics["entropy"] - 0.5 * metrics["diversity"])
    torch.testing.assert_close(metrics["vq"], quantizer)
    added = metrics["adversarial_weight"] * metrics["adversarial"] + 0.1 * metrics["feature_distance"]
    torch.testing.assert_close(losses[MODEL], metrics["reconstruction"] + 4 * quantizer + added)
    assert CRITIC in losses


def test_the_features_learn_from_every_term():
    def gradient(**changes) -> torch.Tensor:
        task = make_task(drop_scales=0.0, scale_dropout=0.0, **changes)
        losses, _ = task.losses(batch_of(task), 0, seeded())
        losses[MODEL].backward()
        weight = task.model.encoder.conv_out.weight
        assert weight.grad is not None
        return weight.grad

    plain = gradient(commitment=0.0, entropy=0.0)
    assert plain.any()
    for term in ({"commitment": 1.0, "entropy": 0.0}, {"commitment": 0.0, "entropy": 1.0}):
        assert not torch.allclose(gradient(**term), plain, rtol=1e-3)


def test_all_parts_of_a_batch_use_the_same_scales():
    task = make_task()
    whole = batch_of(task)
    expected = task.losses(whole, 0, seeded(3))[0][MODEL]
    parts = [
        task.losses(Batch(Pixels(images), torch.zeros(2), (), BatchSlice(first, 2, 4)), 0, seeded(3))[0][MODEL]
        for first, images in zip((0, 2), whole.images.split(2), strict=True)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), expected)


def test_scales_are_dropped_at_their_rate_and_the_last_one_never():
    counts = torch.zeros(5)
    generator = seeded()
    for _ in range(4000):
        counts[random_scales(0.3, 5, generator)] += 1
    shares = counts / 4000
    assert shares[4] == 1
    assert shares[:4].tolist() == pytest.approx([0.7] * 4, abs=0.03)
    assert random_scales(0.0, 3, generator) == [0, 1, 2]
    assert random_scales(1.0, 3, generator) == [2]


def test_dropped_scales_are_not_counted():
    task = make_task(drop_scales=1.0)
    task.losses(batch_of(task), 0, seeded())
    assert task.quantizer.usage.counts[:, -1].tolist() == [0, 0, 4 * 16]


def test_stuck_bits_raise_an_alarm():
    task = make_task(drop_scales=0.0)
    for step in range(20):
        task.losses(batch_of(task), step, seeded())
    assert "stuck" not in task.report().get("alarm", "")
    with torch.no_grad():
        task.model.encoder.conv_out.get_parameter("bias")[2] = 1e6
    for step in range(20):
        task.losses(batch_of(task), step, seeded())
    assert "1 of 8 bits are stuck" in task.report()["alarm"]


def test_validation_counts_each_image_once():
    task = make_task()
    images = random_images(task.model, 4)
    whole = [Batch(Pixels(images[i : i + 2]), torch.zeros(2), (), BatchSlice(0, 2, 2)) for i in (0, 2)]
    padded = [*whole, Batch(Pixels(images[:1]), torch.zeros(1), (), BatchSlice(0, 0, 1))]
    model = deepcopy(task.model)
    assert task.validate(model, whole) == task.validate(model, padded)


# ---- recipes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["entropy", "drop_scales"])
def test_a_codebook_has_no_entropies_and_drops_no_scales(name):
    with refused(name, "bits", "codebook"):
        replace(TOKENIZER, **{name: 0.5})


def test_parts_that_split_a_group_of_images(images, tmp_path):
    with refused(4, 3, "diversity_images"):
        ns.train_tokenizer(images, tmp_path / "run", BITS, diversity_images=3)
    assert not (tmp_path / "run").exists()
    with refused(2, 4, "diversity_images"):
        ns.train_tokenizer(images, tmp_path / "run", BITS, diversity_images=4, accumulate=2)


def test_presets_of_bits():
    model = TOKENIZERS["scenes"].model
    assert model.quantizer == "bits" and model.image_size == (64, 64)
    assert (model.schedule.num_tokens, model.stride, model.code_dim) == (130, 8, 32)
