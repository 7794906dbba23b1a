"""Accepted forms of models, and errors for everything else."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import SCHEDULES, list_files, make_tokenizer, make_var, randomise, refused, same

import nextscale as ns
from nextscale.families import sources
from nextscale.families.sources import load_source, load_tokenizer
from nextscale.families.var import PUBLISHED

SQUARE = SCHEDULES["square"]
NAMES = tuple("abcde")


@pytest.fixture
def pipeline() -> ns.Pipeline:
    return ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), NAMES, device="cpu")


@pytest.fixture
def folder(pipeline, tmp_path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run(pipeline, folder, tmp_path) -> Path:
    """What ``nextscale train var`` leaves: the transformer under its checkpoints."""
    checkpoint = folder / "checkpoints" / "step-00000010"
    shutil.move(folder / "transformer", checkpoint)
    list_files(checkpoint)
    return folder


@pytest.fixture
def pair(pipeline, tmp_path) -> tuple[Path, Path]:
    paths = tmp_path / "vae.pth", tmp_path / "var.pth"
    for path, state in zip(paths, ns.to_official(pipeline.tokenizer, pipeline.model), strict=True):
        torch.save(state, path)
    return paths


@pytest.fixture
def trainer(pipeline, tmp_path) -> Path:
    tokenizer_state, var_state = ns.to_official(pipeline.tokenizer, pipeline.model)
    trainer = {
        "config": {"patch_nums": (1, 2, 3, 4), "label_smooth": 0.0, "prog_it": 0},
        "var_wo_ddp": var_state,
        "vae_local": tokenizer_state,
        "var_opt": {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}},
    }
    torch.save({"epoch": 3, "iter": 17, "args": {"depth": 2, "tblr": 1e-4}, "trainer": trainer}, tmp_path / "ckpt.pth")
    return tmp_path / "ckpt.pth"


def check_same(source: sources.Source, pipeline: ns.Pipeline, schedule: ns.ScaleSchedule | None = None) -> None:
    loaded = ns.Pipeline.from_pretrained(source, device="cpu", schedule=schedule)
    assert (loaded.tokenizer.config, loaded.model.config) == (pipeline.tokenizer.config, pipeline.model.config)
    ours, theirs = (pipe(labels=[0, 3], seed=5) for pipe in (pipeline, loaded))
    assert same(ours.tokens, theirs.tokens)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(ours.images, theirs.images, strict=True))


def test_a_folder(folder, pipeline):
    check_same(folder, pipeline)
    check_same(str(folder), pipeline)
    assert ns.Pipeline.from_pretrained(folder, device="cpu").class_names == list(NAMES)


def test_a_training_run(run, pipeline):
    check_same(run, pipeline)
    assert ns.Pipeline.from_pretrained(run, device="cpu").class_names == list(NAMES)


def test_a_pair_of_official_files(pair, pipeline):
    check_same(pair, pipeline, SQUARE)
    check_same(f"{pair[0]},{pair[1]}", pipeline, SQUARE)


def test_a_checkpoint_of_the_official_trainer(trainer, pipeline):
    check_same(trainer, pipeline)
    check_same(str(trainer), pipeline, SQUARE)


def test_a_loaded_pair_can_be_saved_in_the_place_of_its_files(pair, pipeline, tmp_path):
    """The tensors lie in the mapped file until then."""
    loaded = ns.Pipeline.from_pretrained(pair, device="cpu", schedule=SQUARE)
    loaded.save_pretrained(tmp_path / "ours")
    check_same(tmp_path / "ours", pipeline)


def test_a_published_name(monkeypatch, pair):
    published = PUBLISHED["d16"]
    asked = []

    def fetch(repository: str, file: str) -> Path:
        asked.append((repository, file))
        return pair[file.startswith("var")]

    monkeypatch.setattr(sources, "fetch", fetch)
    for name in ("d16", "FoundationVision/var:d16"):
        with refused("30 tokens in 4 scales", "680 in 10"):
            load_source(name)
    assert set(asked) == {("FoundationVision/var", "vae_ch160v4096z32.pth"), ("FoundationVision/var", published.file)}


def test_a_published_file_of_another_depth(monkeypatch, pair):
    monkeypatch.setattr(sources, "fetch", lambda _, file: pair[file.startswith("var")])
    tiny = replace(PUBLISHED["d16"], model=ns.VARConfig(SQUARE, depth=16))
    monkeypatch.setitem(PUBLISHED, "tiny", tiny)
    with refused("depth 2", "has 16"):
        load_source("tiny")


@pytest.mark.parametrize("name", ["d17", "FoundationVision/var:d17", "no/such/folder"])
def test_unknown_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused(repr(name), "starter", "d16, d20, d24, d30, d36"):
        load_source(name)


def test_no_network():
    with refused("no-such-file.pth", "nobody/nothing", "no network"):
        sources.fetch("nobody/nothing", "no-such-file.pth")


def test_an_empty_folder(tmp_path):
    with refused(tmp_path, "holds no model", "pipeline.json"):
        load_source(tmp_path)


@pytest.mark.parametrize("part", ["tokenizer", "transformer"])
def test_a_folder_of_one_model_alone(folder, part):
    with refused(folder / part, "alone", "pipeline.json"):
        load_source(folder / part)


@pytest.mark.parametrize("part", ["tokenizer", "transformer"])
def test_a_folder_without_one_of_its_models(folder, part):
    shutil.rmtree(folder / part)
    with refused(folder):
        load_source(folder)


@pytest.mark.parametrize("part", ["tokenizer", "transformer"])
def test_damaged_weights(folder, part):
    path = folder / part / "model.safetensors"
    os.truncate(path, path.stat().st_size // 2)
    with refused(path, "not a complete safetensors file"):
        load_source(folder)


def test_a_run_without_a_checkpoint(run):
    shutil.rmtree(run / "checkpoints")
    with refused(run, "without a checkpoint"):
        load_source(run)


@pytest.mark.parametrize("content", ["[]", '{"class_names": "abc"}', '{"class_names": [1, 2]}', "null"])
def test_a_damaged_index(folder, content):
    (folder / "pipeline.json").write_text(content)
    with refused(folder / "pipeline.json", "class_names"):
        load_source(folder)


def test_models_that_do_not_belong_together(folder):
    config = {"codebook_size": 30, "channels": 32, "multipliers": (1,), "num_blocks": 1}
    randomise(ns.ImageTokenizer(ns.TokenizerConfig(SQUARE, **config))).save_pretrained(folder / "tokenizer")
    with refused("codebook_size", 24, 30):
        ns.Pipeline.from_pretrained(folder)


def test_a_wrong_number_of_class_names(folder):
    (folder / "pipeline.json").write_text(json.dumps({"class_names": ["one", "two"]}))
    with refused("5 classes", "2 names"):
        ns.Pipeline.from_pretrained(folder)


def test_a_pair_is_two(pair):
    with refused("a pair", "got 3"):
        load_source([pair[0]] * 3)  # type: ignore[arg-type]


def test_a_pair_of_another_schedule(pair):
    with refused("30 tokens", 680, 2240):
        load_source(pair)
    with refused("30 tokens in 4 scales", "23 in 3"):
        load_source(pair, SCHEDULES["rectangular"])


def test_a_swapped_pair(pair):
    with refused("the tokenizer's first"):
        load_source((pair[1], pair[0]), SQUARE)


def test_one_model_is_not_a_trainer_checkpoint(pair):
    with refused(pair[1], "vae.pth,var.pth"):
        load_source(pair[1])


def test_a_truncated_pair(pair):
    os.truncate(pair[1], pair[1].stat().st_size // 2)
    with refused(pair[1], "truncated"):
        load_source(pair, SQUARE)


@pytest.mark.parametrize("part", ["vae_local", "var_wo_ddp"])
def test_a_trainer_checkpoint_without_one_of_its_models(trainer, part):
    content = torch.load(trainer)
    content["trainer"][part] = None
    torch.save(content, trainer)
    with refused():
        load_source(trainer)


def test_missing_files(tmp_path):
    with refused(tmp_path / "a.pth", "No such file"):
        load_source(tmp_path / "a.pth")
    with refused(tmp_path / "a.pth", "No such file"):
        load_source((tmp_path / "a.pth", tmp_path / "b.pth"))


def test_the_tokenizer_of_every_source(pipeline, folder, pair, trainer):
    expected = pipeline.tokenizer.state_dict()
    for source in (folder, folder / "tokenizer", pair, trainer, f"{pair[0]}, {pair[1]}", pair[0]):
        state = load_tokenizer(source, None if isinstance(source, Path) and source.is_dir() else SQUARE).state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_schedule_for_a_folder(folder):
    with refused("its own schedule", ".pth"):
        load_source(folder, SQUARE)


def test_a_model_is_not_saved_into_a_run(run, pipeline):
    with refused("training run", run):
        pipeline.save_pretrained(run)
    check_same(run, pipeline)


def test_the_embedded_model_has_two_names():
    starter, clothes = (ns.Pipeline.from_pretrained(name, device="cpu") for name in ("starter", "clothes"))
    assert clothes.fingerprint == starter.fingerprint and clothes.class_names == starter.class_names
    assert clothes.family is next(sources.families()) and clothes.family.media == "image"


def test_published_models_are_found_by_both_names():
    assert sources.find_published("d16") is sources.find_published("FoundationVision/var:d16") is PUBLISHED["d16"]
    assert sources.find_published("d17") is None


def test_names_of_classes_that_are_no_text(folder):
    """JSON can hold half of a character, which cannot be printed."""
    names = ["\\ud800", "b", "c", "d", "e"]
    (folder / "pipeline.json").write_text('{"class_names": ' + json.dumps(names).replace("\\\\", "\\") + "}")
    assert json.loads((folder / "pipeline.json").read_text())["class_names"][0] == "\ud800"
    assert ns.Pipeline.from_pretrained(folder, device="cpu").class_names == names


@pytest.mark.parametrize("content", ["[" * 200_000, '{"class_names": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_an_index_of_nested_json(folder, content):
    (folder / "pipeline.json").write_text(content)
    with refused(folder / "pipeline.json", "nested too deeply"):
        load_source(folder)


@pytest.mark.parametrize("part", ["tokenizer", "transformer"])
@pytest.mark.parametrize(
    "change", [{"schedule": {"sizes": [[10**9, 10**9]]}}, {"codebook_size": 10**12}, {"code_dim": 10**9}]
)
def test_absurd_sizes(folder, part, change):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused(path, "at most"):
        load_source(folder)


def test_an_absurd_number_of_classes(folder):
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_classes": 10**7}))
    with refused(folder / "transformer" / "model.safetensors", "class_embedding", (10**7 + 1, 128)):
        load_source(folder)


@pytest.mark.parametrize("sides", [(1, 10**9), tuple(range(1, 3000)), (1, "2"), (10**30,), ("a",), ((1, 2),)])
def test_a_trainer_checkpoint_of_an_absurd_schedule(trainer, sides):
    content = torch.load(trainer)
    content["trainer"]["config"]["patch_nums"] = sides
    torch.save(content, trainer)
    with refused():
        load_source(trainer)


def test_no_name():
    with refused("no model ''"):
        load_source("")
