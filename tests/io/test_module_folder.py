"""Saving modules to folders, and loading them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SCHEDULES, list_files, make_var, refused

import nextscale as ns
from nextscale.io.config import as_config
from nextscale.io.module_folder import load_module, save_module

SQUARE = SCHEDULES["square"]


@pytest.fixture
def model() -> ns.VAR:
    return make_var(SQUARE)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path)
    return tmp_path


def test_there_and_back_bit_for_bit(model, folder):
    loaded = ns.VAR.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_less_precision_loads_as_float32(model, tmp_path, dtype):
    save_module(tmp_path, model.config, model, dtype)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    loaded = ns.VAR.from_pretrained(tmp_path).state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.to(dtype).float())


def test_loaded_weights_can_be_trained(folder):
    loaded = ns.VAR.from_pretrained(folder)
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())


def test_a_text_is_a_path(folder):
    assert ns.VAR.from_pretrained(str(folder)).config == ns.VAR.from_pretrained(folder).config


def test_the_newest_checkpoint_of_a_run(model, tmp_path):
    for step, value in ((999, 1.0), (1000, 2.0)):
        run = tmp_path / "checkpoints" / f"step-{step:08d}"
        model.save_pretrained(run)
        state = load_file(run / "model.safetensors")
        save_file(state | {"head.bias": torch.full_like(state["head.bias"], value)}, run / "model.safetensors")
        list_files(run)
    (tmp_path / "checkpoints" / ".step-00001001.tmp").mkdir()
    assert ns.VAR.from_pretrained(tmp_path).head.bias.unique().item() == 2


def test_a_missing_folder(tmp_path):
    with refused(f"no folder {tmp_path / 'none'}"):
        ns.VAR.from_pretrained(tmp_path / "none")


def test_an_empty_folder(tmp_path):
    with refused(tmp_path, "config.json", "checkpoint"):
        ns.VAR.from_pretrained(tmp_path)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with refused(folder / "model.safetensors"):
        ns.VAR.from_pretrained(folder)


def test_truncated_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with refused(folder / "model.safetensors", "not a complete safetensors file"):
        ns.VAR.from_pretrained(folder)


def change_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_weights_of_another_depth(folder):
    change_config(folder, depth=3)
    with refused(folder / "model.safetensors", "lacks 12 of the 46 tensors of this VAR", "adaln.2"):
        ns.VAR.from_pretrained(folder)
    change_config(folder, depth=1)
    with refused(folder / "model.safetensors", "12 tensors besides the 22 tensors of this VAR", "adaln.1"):
        ns.VAR.from_pretrained(folder)


def test_weights_of_another_schedule(folder):
    change_config(folder, schedule={"sizes": [[1, 1], [2, 2], [3, 3], [5, 5]]})
    with refused("position_embedding", (1, 30, 128), (1, 39, 128)):
        ns.VAR.from_pretrained(folder)


def test_weights_of_another_kind(folder):
    change_config(folder, shared_adaln=True)
    with refused("lacks 2", "adaln_offset.0"):
        ns.VAR.from_pretrained(folder)


def test_a_folder_of_another_model(folder):
    with refused("TokenizerConfig", "depth"):
        ns.ImageTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("content", [[], 3, None, "text"])
def test_configurations_are_objects(folder, content):
    (folder / "config.json").write_text(json.dumps(content))
    with refused("VARConfig", "named fields"):
        ns.VAR.from_pretrained(folder)


@pytest.mark.parametrize("value", ["four", None, [4], 2.5])
def test_fields_of_the_wrong_type(folder, value):
    change_config(folder, depth=value)
    with refused("depth"):
        ns.VAR.from_pretrained(folder)


def test_unknown_fields_are_named():
    with refused("VARConfig has no field colour, taste", "codebook_size"):
        as_config(ns.VARConfig, {"depth": 2, "taste": 1, "colour": 3})


def test_a_missing_field():
    with refused("ScaleSchedule", "sizes"):
        as_config(ns.ScaleSchedule, {})


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file"):
        model.save_pretrained(tmp_path / "file" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_generic_module(tmp_path):
    save_module(tmp_path, SQUARE, torch.nn.Linear(2, 3))
    assert load_module(tmp_path, ns.ScaleSchedule, lambda _: torch.nn.Linear(2, 3)).weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ns.TokenizerConfig, {"quant_resi": "0.5"}),
        (ns.TokenizerConfig, {"multipliers": [1.0, 2.0]}),
        (ns.TokenizerConfig, {"multipliers": 4}),
        (ns.TokenizerConfig, {"num_phi": 1.5}),
        (ns.TokenizerConfig, {"num_phi": -1}),
        (ns.TokenizerConfig, {"znorm": "false"}),
        (ns.VARConfig, {"mlp_ratio": "4"}),
        (ns.VARConfig, {"mlp_ratio": -1.0}),
        (ns.VARConfig, {"mlp_ratio": float("nan")}),
        (ns.VARConfig, {"depth": True}),
        (ns.VARConfig, {"width": 100, "heads": 3}),
    ],
)
def test_fields_of_another_kind(kind, fields):
    with refused(next(iter(fields))):
        kind(**fields)
