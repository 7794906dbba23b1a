"""Official files of Infinity: pairs, folders of shards, and checkpoints of the trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import refused, same
from tiny_infinity import make_infinity, make_text, make_tokenizer
from torch import Tensor

import nextscale as ns
from nextscale.families import official_files, sources
from nextscale.families.infinity import PUBLISHED
from nextscale.families.official_files import trainer_schedule, transformer_part
from nextscale.families.sources import load_source, load_tokenizer

States = tuple[dict[str, Tensor], dict[str, Tensor]]
TEXT = make_text(3, 7)
SQUARE = make_tokenizer().schedule


@pytest.fixture
def states() -> States:
    return ns.to_official(make_tokenizer(), make_infinity())


@pytest.fixture
def vae(states, tmp_path) -> Path:
    """As it is published: under a key, with a buffer."""
    torch.save({"vae": states[0], "trained_steps": 3}, tmp_path / "infinity_vae_d6.pth")
    return tmp_path / "infinity_vae_d6.pth"


def tokens(parts: sources.Parts) -> list[Tensor]:
    return ns.sample(parts.tokenizer, parts.model, TEXT, seed=3).tokens


@pytest.fixture
def expected() -> list[Tensor]:
    return ns.sample(make_tokenizer(), make_infinity(), TEXT, seed=3).tokens


def write_shards(folder: Path, state: dict[str, Tensor], count: int = 3) -> Path:
    folder.mkdir()
    names = sorted(state)
    files = {name: f"model-{i % count:05d}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: state[name].contiguous().clone() for name in names if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


def test_a_pair(states, vae, tmp_path, expected):
    torch.save(states[1], tmp_path / "model.pth")
    for source in ((vae, tmp_path / "model.pth"), f"{vae}, {tmp_path / 'model.pth'}"):
        parts = load_source(source, SQUARE)
        assert same(tokens(parts), expected)
        assert parts.text_encoder == "google/flan-t5-xl" and parts.class_names == ()
    save_file({name: tensor.clone() for name, tensor in states[1].items()}, tmp_path / "model.safetensors")
    assert same(tokens(load_source(f"{vae},{tmp_path / 'model.safetensors'}", SQUARE)), expected)


def test_a_folder_of_shards(states, vae, tmp_path, expected):
    folder = write_shards(tmp_path / "shards", states[1])
    assert same(tokens(load_source((vae, folder), SQUARE)), expected)
    assert same(tokens(load_source(f"{vae},{folder}", SQUARE)), expected)


def test_shards_of_pickled_tensors(states, vae, tmp_path, expected):
    folder, half = tmp_path / "shards", len(states[1]) // 2
    folder.mkdir()
    names = list(states[1])
    files = {name: f"pytorch_model-{i // half}.pt" for i, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: states[1][name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    assert same(tokens(load_source((vae, folder), SQUARE)), expected)


def test_damaged_shards(states, vae, tmp_path):
    folder = write_shards(tmp_path / "shards", states[1])
    index = folder / "model.safetensors.index.json"
    first = folder / "model-00000.safetensors"
    content = first.read_bytes()
    os.truncate(first, len(content) // 2)
    with refused(first, "complete"):
        load_source((vae, folder), SQUARE)
    first.unlink()
    with refused(folder, "model-00000.safetensors", "3 shards"):
        load_source((vae, folder), SQUARE)
    first.write_bytes(content)
    names = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": names | {"more.weight": "model-00000.safetensors"}}))
    with refused(f"lacks 1 of {len(names) + 1} tensors", "more.weight"):
        load_source((vae, folder), SQUARE)
    for text in ('{"weight_map": 3}', "[]", '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        with refused(index, "weight_map"):
            load_source((vae, folder), SQUARE)
    index.unlink()
    with refused(folder, "0 index files"):
        load_source((vae, folder), SQUARE)


@pytest.mark.parametrize("model, ema", [("gpt_fsdp", "gpt_ema_fsdp"), ("gpt_wo_ddp", "gpt_ema_for_vis")])
def test_a_checkpoint_of_the_trainer(states, tmp_path, expected, capsys, model, ema):
    """With both models; the EMA weights are used if there are any."""
    path = tmp_path / "ar-ckpt-giter010K-ep1-iter3-last.pth"
    other = {name: tensor + 1 for name, tensor in states[1].items()}
    trainer = {"config": {}, "vae_local": states[0], model: states[1], ema: None}
    torch.save({"args": {}, "epoch": 1, "trainer": trainer}, path)
    assert same(tokens(load_source(path, SQUARE)), expected)
    assert "EMA" not in capsys.readouterr().err
    torch.save({"args": {}, "epoch": 1, "trainer": trainer | {model: other, ema: states[1]}}, path)
    assert same(tokens(load_source(str(path), SQUARE)), expected)
    assert "the EMA weights are used" in capsys.readouterr().err


def test_a_checkpoint_without_a_tokenizer(states, vae, tmp_path, expected):
    path = tmp_path / "last.pth"
    torch.save({"trainer": {"config": {}, "vae_local": None, "gpt_fsdp": states[1]}}, path)
    with refused(path, "no tokenizer", "vae.pth,last.pth"):
        load_source(path)
    assert same(tokens(load_source((vae, path), SQUARE)), expected)


def test_checkpoints_of_the_trainers_are_recognised():
    state = {"weight": torch.ones(2)}
    trainer = {"config": {"patch_nums": (1, 2, 3)}, "var_wo_ddp": state, "vae_local": state}
    assert transformer_part({"epoch": 1, "trainer": trainer}) == "var_wo_ddp"
    assert transformer_part({"trainer": {"vae_local": state}}) is transformer_part(state) is None
    schedule = trainer_schedule({"trainer": trainer})
    assert schedule is not None and schedule.sizes == ((1, 1), (2, 2), (3, 3))


@pytest.mark.parametrize("trainer", [{}, {"config": {}}, {"config": None}])
def test_checkpoints_without_a_schedule(trainer):
    assert trainer_schedule({"trainer": trainer}) is None


def test_the_tokenizer_of_a_file(vae, states):
    tokenizer = load_tokenizer(vae)
    ours = make_tokenizer().state_dict()
    assert tokenizer.config.quantizer == "bits" and tokenizer.schedule == ns.ScaleSchedule.infinity()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in tokenizer.state_dict().items())


def test_a_tokenizer_of_other_bits(states, tmp_path):
    torch.save(ns.to_official(make_tokenizer(code_dim=8), make_infinity())[0], tmp_path / "vae.pth")
    torch.save(states[1], tmp_path / "model.pth")
    with refused("6 bits", "8 channels"):
        load_source((tmp_path / "vae.pth", tmp_path / "model.pth"), SQUARE)


@pytest.mark.parametrize(
    "name, warned",
    [
        ("infinity_vae_d32.pth", True),
        ("infinity_vae_d32reg.pth", False),
        ("infinity_vae_d32_reg.pth", False),
        ("mine.pth", False),
    ],
)
@pytest.mark.parametrize("width", [2048, 48])
def test_a_tokenizer_that_the_2b_model_was_not_trained_with(capsys, name, warned, width):
    state = {"cfg_uncond": torch.zeros(1, 1), "text_norm.weight": torch.zeros(1), "pos_start": torch.zeros(1, 1, width)}
    official_files.warn_about_pair([Path(name), Path("infinity_2b_reg.pth")], state)
    said = capsys.readouterr().err
    assert ("infinity_vae_d32reg.pth" in said and name in said) == (warned and width == 2048)


def test_published_models(monkeypatch, states, vae, tmp_path):
    torch.save(states[1], tmp_path / "model.pth")
    folder = write_shards(tmp_path / "infinity_8b_weights", states[1])
    asked: list[str] = []

    def fetch(repository: str, file: str) -> Path:
        assert repository == "FoundationVision/Infinity"
        asked.append(file)
        return vae if "vae" in file else tmp_path / "model.pth"

    monkeypatch.setattr(sources, "fetch", fetch)
    monkeypatch.setattr(sources, "fetch_folder", lambda repository, patterns: asked.append(*patterns) or folder.parent)
    for name in ("FoundationVision/Infinity:2b", "infinity-2b"):
        with refused("depth 4", "has 32"):
            load_source(name)
    with refused("depth 4", "has 40"):
        load_source("infinity-8b")
    assert asked == ["infinity_vae_d32reg.pth", "infinity_2b_reg.pth"] * 2 + [
        "infinity_vae_d56_f8_14_patchify.pth",
        "infinity_8b_weights/*",
    ]


def test_names_of_published_models():
    assert sources.find_published("infinity-8b-512") is PUBLISHED["8b-512"]
    assert sources.find_published("FoundationVision/Infinity:8b") is PUBLISHED["8b"]
    assert sources.find_published("2b") is None and sources.find_published("FoundationVision/var:2b") is None
    eight = PUBLISHED["8b"]
    assert (eight.model.bits, eight.tokenizer.token_dim, eight.tokenizer.downsampling) == (56, 56, 16)
    assert PUBLISHED["8b-512"].tokenizer.image_size == (512, 512) and PUBLISHED["2b"].tokenizer.image_size == (
        1024,
        1024,
    )
    assert PUBLISHED["2b"].model.bits == PUBLISHED["2b"].tokenizer.token_dim == 32
