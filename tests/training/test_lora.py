"""LoRA: no initial change, few trained parameters, and saved models of the usual format."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import SCHEDULES, make_var, refused
from tiny_runs import TRANSFORMER, make_images, train_command
from torch import Tensor, nn

import nextscale as ns
from nextscale.cli.main import main
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.training.ema import make_ema
from nextscale.training.lora import add_lora, has_changes, merged_state

SQUARE = SCHEDULES["square"]
RANK = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def changed() -> ns.VAR:
    """A model with low-rank changes that do nothing yet."""
    model = deepcopy(make_var(SQUARE))
    add_lora(model, RANK, seeded())
    return model


@torch.no_grad()
def learn_something(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(len(name))))


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(torch.tensor([0, 3]), torch.randn(2, SQUARE.num_tokens - 1, 8, generator=seeded(9)))


def test_at_the_start_nothing_changes(changed):
    assert torch.equal(logits(changed), logits(make_var(SQUARE)))


def test_every_change_has_an_effect(changed):
    before = logits(changed)
    for name, parameter in changed.named_parameters():
        if name.endswith(".b"):
            with torch.no_grad():
                parameter.fill_(0.1)
            assert not torch.equal(logits(changed), before), name
            with torch.no_grad():
                parameter.zero_()
    assert torch.equal(logits(changed), before)


def test_only_the_changes_learn(changed):
    plain = make_var(SQUARE)
    learning = {name: p for name, p in changed.named_parameters() if p.requires_grad}
    assert all(name.split(".")[-1] in ("a", "b") for name in learning)
    layers = {name.split(".parametrizations.")[0] for name in learning}
    names = ("attention.qkv", "attention.proj", "mlp.up", "mlp.down")
    assert layers == {f"blocks.{i}.{name}" for i in range(2) for name in names}
    sides = [sum(plain.state_dict()[f"{layer}.weight"].shape) for layer in layers]
    assert sum(p.numel() for p in learning.values()) == RANK * sum(sides)


def test_a_change_is_of_its_rank(changed):
    learn_something(changed)
    plain, merged = make_var(SQUARE).state_dict(), merged_state(changed)
    name = "blocks.1.mlp.up.weight"
    assert torch.linalg.matrix_rank((merged[name] - plain[name]).double(), rtol=1e-5).item() == RANK


def test_merged_weights_are_those_of_a_plain_model(changed):
    plain = deepcopy(make_var(SQUARE))
    learn_something(changed)
    assert not torch.equal(logits(changed), logits(plain))
    merged = merged_state(changed)
    assert merged.keys() == plain.state_dict().keys()
    plain.load_state_dict(merged)
    assert torch.equal(logits(plain), logits(changed))


def test_a_model_without_changes_is_its_own_merger(changed):
    plain = make_var(SQUARE)
    assert has_changes(changed) and has_changes(make_ema(changed, 0.9)) and not has_changes(plain)
    state = plain.state_dict()
    assert merged_state(plain).keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in merged_state(plain).items())


def test_the_start_depends_on_the_generator_alone():
    states = []
    for global_seed, seed in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(global_seed)
        model = deepcopy(make_var(SQUARE))
        add_lora(model, RANK, seeded(seed))
        states.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize("rank", [128, 1000])
def test_a_rank_that_is_not_low(rank):
    with refused("rank must be below 128", rank):
        add_lora(deepcopy(make_var(SQUARE)), rank)


def test_a_model_without_such_matrices():
    with refused("none of the matrices", "qkv"):
        add_lora(nn.Sequential(nn.Linear(3, 3)), 1)


def lora_command(images: Path, var_run: Path, run: Path) -> list[str]:
    return train_command(
        "var", images, run, "--init-from", var_run, "--steps", 6, "--save-every", 3, "--set", f"lora={RANK}"
    )


@pytest.fixture(scope="module")
def lora_run(images, var_run, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("lora") / "run"
    main(lora_command(images, var_run, run))
    return run


def test_a_run_learns_nothing_but_changes(var_run, lora_run):
    trained = ns.VAR.from_pretrained(var_run).state_dict()
    state = load_file(lora_run / "checkpoints" / "step-00000006" / "state" / "state.safetensors")
    ours = {name.removeprefix("model/"): t for name, t in state.items() if name.startswith("model/")}
    for name, tensor in ours.items():
        layer, _, part = name.partition(".parametrizations.weight.")
        if part in ("", "original"):
            assert torch.equal(tensor, trained[f"{layer}.weight" if part else name])
        elif part.endswith(".b"):
            assert tensor.any()


def test_a_run_loads_like_any_model(var_run, lora_run):
    trained, ours = ns.VAR.from_pretrained(var_run).state_dict(), ns.VAR.from_pretrained(lora_run).state_dict()
    assert ours.keys() == trained.keys()
    differ = {name for name in ours if not torch.equal(ours[name], trained[name])}
    assert len(differ) == 4 * TRANSFORMER.depth
    for name in differ:
        change = torch.linalg.svdvals((ours[name] - trained[name]).double())
        assert change[0] > 0 and change[RANK] < 1e-4 * change[0]
    assert ns.Pipeline.from_pretrained(lora_run)(["boot"], seed=1).images[0].size == (8, 8)


def test_resumed_equals_uninterrupted(images, var_run, lora_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(lora_run, run)
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    main(lora_command(images, var_run, run))
    assert "resuming" in capsys.readouterr().err
    assert newest_checkpoint(run) == run / "checkpoints" / "step-00000006"
    for name in ("model.safetensors", "state/state.safetensors"):
        ours, theirs = (load_file(folder / "checkpoints" / "step-00000006" / name) for folder in (run, lora_run))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_new_classes_learn_beside_the_changes(var_run, tmp_path, capsys):
    images = tmp_path / "images"
    for seed, name in enumerate(("boot", "scarf", "coat")):
        make_images(images / name, 4, seed=seed)
    main(lora_command(images, var_run, tmp_path / "run"))
    assert "all else frozen except the class embedding" in capsys.readouterr().err
    table = ns.VAR.from_pretrained(tmp_path / "run").class_embedding.weight
    assert not torch.equal(table[0], table[2])  # by alphabet: boot, coat, scarf; the last two started alike
    assert not torch.equal(table[1], table[2])
