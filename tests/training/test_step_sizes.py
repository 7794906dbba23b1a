"""Several image sizes in one run of a bitwise tokenizer, and dense schedules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny import refused
from tiny_runs import BITS

import nextscale as ns
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.bit_training import BitTraining
from nextscale.training.presets import TOKENIZERS
from nextscale.training.step_sizes import cut_schedule, dense_schedule, pick_images, shrink_images
from nextscale.training.task import MODEL
from nextscale.training.tokenizer_task import TokenizerTask

SIZES = replace(
    BITS,
    precision="float32",
    batch_size=8,
    shrink=(4, 2, 1),
    one_of=(1, 2, 4),
    dense_scales=True,
    diversity_images=4,
    model=replace(BITS.model, schedule=ns.ScaleSchedule.square((1, 2, 4, 8, 16))),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(first: int, count: int, whole: int = 8, side: int = 32) -> Batch:
    images = torch.rand(whole, 3, side, side, generator=seeded(1))[first : first + count] * 2 - 1
    labels = torch.arange(first, first + count)
    return Batch(Pixels(images), labels, (), BatchSlice(first, count, whole), tuple(map(str, labels.tolist())))


def make_task() -> TokenizerTask:
    return TokenizerTask(ns.ImageTokenizer(SIZES.model).init_weights(seeded()), SIZES)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (16, range(1, 17)),
        (32, (*range(1, 17), 20, 24, 28, 32)),
        (64, (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64)),
        (128, (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)),
        (10, range(1, 11)),
        (22, (*range(1, 17), 20, 22)),
        (1, (1,)),
    ],
)
def test_dense_schedules_of_squares(side, expected):
    assert dense_schedule(side, side) == ns.ScaleSchedule.square(expected)


@pytest.mark.parametrize("grid", [(12, 21), (21, 12), (1, 5), (40, 16)])
def test_dense_schedules_of_other_grids_grow(grid):
    sizes = dense_schedule(*grid).sizes
    assert sizes[0] == (1, 1) and sizes[-1] == grid
    assert all(h <= k and w <= m and (h, w) != (k, m) for (h, w), (k, m) in pairwise(sizes))


def test_own_scales_of_smaller_images():
    own = ns.ScaleSchedule.infinity("1M")
    assert cut_schedule(own, 16, 16).sizes == ns.ScaleSchedule.infinity("0.06M").sizes
    assert cut_schedule(own, 32, 32).sizes == ns.ScaleSchedule.infinity("0.25M").sizes
    assert cut_schedule(own, 64, 64).sizes == own.sizes
    assert cut_schedule(ns.ScaleSchedule.square((1, 3, 8)), 4, 4).sizes == ((1, 1), (3, 3), (4, 4))


def test_images_shrink_to_means():
    batch = batch_of(0, 2)
    assert shrink_images(batch, 1) is batch
    small = shrink_images(batch, 4).images
    torch.testing.assert_close(small[1, 2, 3, 5], batch.images[1, 2, 12:16, 20:24].mean())


def test_one_of_each_group_is_picked_whatever_the_parts():
    whole = pick_images(batch_of(0, 8), 4, seeded(5))
    assert whole.batch_slice == BatchSlice(0, 2, 2)
    assert [label // 4 for label in whole.labels.tolist()] == [0, 1]
    assert whole.captions == tuple(map(str, whole.labels.tolist()))
    for image, label in zip(whole.images, whole.labels, strict=True):
        assert torch.equal(image, batch_of(0, 8).images[label])
    parts = [pick_images(batch_of(first, 4), 4, seeded(5)) for first in (0, 4)]
    assert [part.batch_slice for part in parts] == [BatchSlice(0, 1, 2), BatchSlice(1, 1, 2)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    picked = torch.stack([pick_images(batch_of(0, 8), 4, seeded(i)).labels % 4 for i in range(400)])
    assert (picked.flatten().bincount(minlength=4) / picked.numel()).tolist() == pytest.approx([0.25] * 4, abs=0.06)


def test_steps_draw_a_size():
    task = make_task()
    assert isinstance(task.quantizer, BitTraining)
    seen = []
    for seed in range(60):
        batch, arguments = task.quantizer.prepare(batch_of(0, 8), seeded(seed))
        count, side = len(batch.images), batch.images.shape[-1]
        assert count == batch.batch_slice.count
        seen.append((count, side))
        assert arguments["bits"].schedule.final_size == (side // 2, side // 2)
        assert arguments["bits"].groups == 2
    assert set(seen) == {(8, 8), (4, 16), (2, 32)}


def test_parts_of_a_batch_add_up_at_every_size():
    for seed in range(6):
        task = make_task()
        expected = task.losses(batch_of(0, 8), 0, seeded(seed))[0][MODEL]
        parts = [task.losses(batch_of(first, 4), 0, seeded(seed))[0][MODEL] for first in (0, 4)]
        torch.testing.assert_close(torch.stack(parts).mean(), expected)


def test_usage_of_all_scales_is_counted():
    task = make_task()
    for seed in range(40):
        task.losses(batch_of(0, 8), 0, seeded(seed))
    assert isinstance(task.quantizer, BitTraining)
    assert task.quantizer.sizes == list(dense_schedule(16, 16).sizes)
    assert len(task.report()["ones"]) == 16
    assert len(task.validate(task.model, [batch_of(0, 2)])["ones"]) == 5


def test_dense_scales_of_patchify_are_those_of_single_positions():
    model = replace(BITS.model, patchify=True, schedule=ns.ScaleSchedule.square((1, 2, 4)))
    task = TokenizerTask(
        ns.ImageTokenizer(model).init_weights(seeded()), replace(SIZES, model=model, shrink=(1,), one_of=(1,))
    )
    losses, _ = task.losses(batch_of(0, 8, side=16), 0, seeded())
    assert losses[MODEL].isfinite()
    assert isinstance(task.quantizer, BitTraining) and task.quantizer.sizes == [(i, i) for i in range(1, 9)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"one_of": (1, 2)}, ("one_of", 3, "(1, 2)")),
        ({"shrink": (3,), "one_of": (1,)}, ("32 x 32", "3 times", "multiples of 2")),
        ({"one_of": (1, 2, 3)}, ("diversity_images", 4, 3)),
        ({"shrink": ()}, ("shrink", "one or more")),
        ({"shrink": (0,)}, ("shrink", "at least 1")),
        ({"model": replace(SIZES.model, quantizer="codebook"), "entropy": 0.0, "drop_scales": 0.0}, ("dense_scales",)),
    ],
)
def test_sizes_that_do_not_fit(changes, words):
    with refused(*words):
        replace(SIZES, **changes)


def test_a_batch_that_cannot_be_grouped(images, tmp_path):
    with refused(2, 4, "one_of"):
        ns.train_tokenizer(images, tmp_path / "run", replace(SIZES, entropy=0.0), batch_size=2)


def test_the_second_stage_starts_from_the_first(images, tmp_path):
    """Weights and critic are those of the first stage, and the schedule is that of the recipe."""
    game = {"channels": 8, "layers": 1, "norm": "batch", "start": 0.0}
    first = replace(SIZES, shrink=(1,), one_of=(1,), model=BITS.model, steps=2, batch_size=4)
    ns.train_tokenizer(images, tmp_path / "first", first, adversarial=game)
    tokenizer = ns.train_tokenizer(
        images,
        tmp_path / "second",
        replace(SIZES, steps=1, batch_size=4),
        learning_rate=1e-9,
        init_from=str(tmp_path / "first"),
        adversarial={**game, "init_from": str(tmp_path / "first")},
    )
    assert tokenizer.schedule == SIZES.model.schedule
    state = [ns.ImageTokenizer.from_pretrained(tmp_path / name).state_dict() for name in ("first", "second")]
    for name, tensor in state[0].items():
        torch.testing.assert_close(state[1][name], tensor, atol=1e-6, rtol=0)
    critics = [critic_of(tmp_path / name) for name in ("first", "second")]
    assert critics[0].keys() == critics[1].keys() and critics[0]
    for name, tensor in critics[0].items():
        torch.testing.assert_close(critics[1][name], tensor, atol=1e-6, rtol=0)


def critic_of(run) -> dict[str, torch.Tensor]:
    from nextscale.io.checkpoint_folder import newest_checkpoint
    from nextscale.io.tensor_files import read_tensors

    folder = newest_checkpoint(run)
    assert folder
    state = read_tensors(folder / "state" / "state.safetensors")
    return {name: tensor for name, tensor in state.items() if name.startswith("critic/")}


def test_a_critic_of_no_run(images, tmp_path):
    with refused("adversarial.init_from", "no checkpoint"):
        ns.train_tokenizer(
            images, tmp_path / "run", BITS, adversarial={"layers": 1, "channels": 8, "init_from": "nowhere"}
        )


@pytest.mark.parametrize("dim", [16, 32])
def test_the_published_recipes(dim):
    first, second = TOKENIZERS[f"infinity-d{dim}"], TOKENIZERS[f"infinity-d{dim}-1024"]
    assert first.model.image_size == (256, 256) and second.model.image_size == (1024, 1024)
    assert first.model.code_dim == second.model.code_dim == dim and first.model.stride == 16
    task_sizes = [recipe.model.image_size[0] // factor for recipe in (first, second) for factor in recipe.shrink]
    assert task_sizes == [256, 256, 512, 1024]
    assert first.adversarial and second.adversarial
    assert round(first.adversarial.start * first.steps) == 50_000 and second.adversarial.start == 0
