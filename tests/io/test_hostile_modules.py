"""Damaged and hostile models: one sentence, before memory is allocated."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SCHEDULES, make_tokenizer, make_var, refused

import nextscale as ns
from nextscale.evaluation.classifier import ClassifierConfig, ResidualClassifier, load_classifier, save_classifier
from nextscale.io import module_folder
from nextscale.io.config import check_fields
from nextscale.io.module_folder import build_on_meta, limited_parameters, load_module, save_module
from nextscale.io.tensor_files import Header, read_headers
from nextscale.training.adversarial import AdversarialRecipe

SQUARE = SCHEDULES["square"]
Kind = type[ns.VAR] | type[ns.ImageTokenizer]


@pytest.fixture(params=["transformer", "tokenizer"])
def folder(request, tmp_path) -> tuple[Kind, Path]:
    model = make_var(SQUARE) if request.param == "transformer" else make_tokenizer(SQUARE)
    model.save_pretrained(tmp_path)
    return type(model), tmp_path


def change_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)


HUGE = {
    "depth": 10**9,
    "width": 10**12,
    "heads": 10**30,
    "mlp_ratio": 1e300,
    "num_classes": 10**15,
    "codebook_size": 10**400,
    "code_dim": 10**12,
}
HUGE_TOKENIZER = {
    "channels": 32 * 10**9,
    "multipliers": [10**9, 10**9],
    "num_blocks": 10**9,
    "num_phi": 10**9,
    "codebook_size": 10**18,
    "code_dim": 10**6,
    "quant_resi": 10**400,
}


@pytest.mark.parametrize("name", HUGE)
def test_absurd_sizes_of_a_transformer(tmp_path, name):
    make_var(SQUARE).save_pretrained(tmp_path)
    change_config(tmp_path, **{name: HUGE[name]})
    with quickly(), refused(tmp_path / "config.json", name):
        ns.VAR.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 10**9),
        ("width", 10**12),
        ("width", 10**400),
        ("hidden", 10**15),
        ("bits", 10**9),
        ("text_width", 10**12),
        ("text_rows", 10**12),
        ("levels", 10**9),
        ("heads", 10**400),
    ],
)
def test_absurd_sizes_of_infinity(tmp_path, name, value):
    sizes: dict[str, Any] = {"depth": 2, "width": 64, "heads": 2, "bits": 8, "text_width": 64, "text_rows": 4}
    model = ns.Infinity(ns.InfinityConfig(ns.ScaleSchedule.infinity("0.06M"), **sizes))
    model.save_pretrained(tmp_path)
    ns.Infinity.from_pretrained(tmp_path)
    change_config(tmp_path, **{name: value})
    with quickly(), refused(tmp_path / "config.json", "" if value == 10**400 else name):
        ns.Infinity.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", HUGE_TOKENIZER)
def test_absurd_sizes_of_a_tokenizer(tmp_path, name):
    make_tokenizer(SQUARE).save_pretrained(tmp_path)
    change_config(tmp_path, **{name: HUGE_TOKENIZER[name]})
    with quickly(), refused(tmp_path / "config.json", name):
        ns.ImageTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([[1, 1], [10**9, 10**9]], ["4,096 tokens on a side", 10**9]),
        ([[1, 1]] * 2000, ["1,000 scales", "2,000"]),
        ([[1, 1], [4096, 4096], [1, 10**40]], ["4,096 tokens"]),
        ([[1.5, 1]], ["pairs of positive integers"]),
        (10**400, ["sequence"]),
    ],
)
def test_absurd_schedules(folder, sizes, words):
    kind, path = folder
    change_config(path, schedule={"sizes": sizes})
    with quickly(), refused(path / "config.json", *words):
        kind.from_pretrained(path)


def test_images_of_a_tokenizer_are_bounded():
    with refused("16,384 pixels on a side", "32,768 x 32,768"):
        ns.TokenizerConfig(ns.ScaleSchedule.square((2048,)))
    with refused("multipliers", "at most 12", "200,000"):
        ns.TokenizerConfig(SQUARE, multipliers=(1,) * 200_000)


@pytest.mark.parametrize("factor", [2, 64])
def test_sizes_are_compared_before_memory_is_allocated(folder, factor):
    kind, path = folder
    fields = {"width": 128 * factor} if kind is ns.VAR else {"channels": 32 * factor}
    change_config(path, **fields)
    with quickly(), refused(path / "model.safetensors", "has shape", "but the configuration expects"):
        kind.from_pretrained(path)


def test_the_weights_are_not_read_for_a_wrong_config(folder, monkeypatch):
    kind, path = folder
    monkeypatch.setattr(module_folder, "read_tensors", lambda path: pytest.fail("they were read"))
    change_config(path, codebook_size=23)
    with refused("24", "23"):
        kind.from_pretrained(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_weights_that_are_no_floating_point_numbers(folder, dtype):
    kind, path = folder
    change_weights(path, lambda tensor: tensor.to(dtype))
    with refused(path / "model.safetensors", str(dtype).removeprefix("torch."), "expected floating-point numbers"):
        kind.from_pretrained(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn])
def test_weights_of_other_floating_point_types(folder, dtype):
    kind, path = folder
    before = load_file(path / "model.safetensors")
    change_weights(path, lambda tensor: tensor.to(dtype))
    loaded = kind.from_pretrained(path).state_dict()
    assert all(torch.equal(loaded[name], tensor.to(dtype).float()) for name, tensor in before.items())


def test_integers_stay_integers(tmp_path):
    module = torch.nn.BatchNorm1d(3)
    save_module(tmp_path, SQUARE, module)
    change_weights(tmp_path, lambda tensor: tensor.float())
    with refused("num_batches_tracked", "float32", "expected int64"):
        load_module(tmp_path, ns.ScaleSchedule, lambda _: torch.nn.BatchNorm1d(3))


def test_a_loop_over_parts_ends_with_the_tensors():
    """Also for a module whose config has no bound."""
    built: list[int] = []

    def build(depth: int) -> torch.nn.Module:
        return torch.nn.ModuleList(torch.nn.Linear(built.append(i) or 2, 2) for i in range(depth))

    with refused("config.json", "more than 100 tensors"):
        build_on_meta(build, 10**9, 100, "config.json")
    assert len(built) == 51
    assert len(list(build_on_meta(build, 50, 100, "config.json").parameters())) == 100


@pytest.mark.parametrize("sizes", [(10**12, 10**12), (2**62, 8), (10**30, 1)])
def test_sizes_that_no_tensor_has(sizes):
    with refused("config.json", "the sizes are too large"):
        build_on_meta(lambda sizes: torch.nn.Linear(*sizes), sizes, 100, "config.json")


def test_the_limit_ends_with_the_block():
    with refused("more than 1 tensors"), limited_parameters(1):
        torch.nn.Linear(2, 2)
    torch.nn.Linear(2, 2)


def test_headers_are_read_without_tensors(folder):
    _, path = folder
    expected = {name: Header(tuple(t.shape), "float32") for name, t in load_file(path / "model.safetensors").items()}
    with quickly(megabytes=1):
        assert read_headers(path / "model.safetensors") == expected


def test_a_classifier_of_absurd_sizes(tmp_path):
    save_classifier(tmp_path, ResidualClassifier(ClassifierConfig(2, (8, 8), (4, 8))), ["a", "b"])
    load_classifier(tmp_path)
    for fields, words in (
        ({"classes": 10**12}, ["classes", "at most"]),
        ({"size": [10**9, 10**9]}, ["size", "at most"]),
        ({"widths": [10**9]}, ["widths", "at most"]),
        ({"widths": [4] * 13, "size": [16384, 16384]}, ["widths", "at most 12"]),
        ({"classes": 3}, ["head.weight", (2, 8), (3, 8)]),
    ):
        before = (tmp_path / "config.json").read_text()
        change_config(tmp_path, **fields)
        with quickly(), refused(tmp_path, *words):
            load_classifier(tmp_path)
        (tmp_path / "config.json").write_text(before)


@pytest.mark.parametrize(
    "card", ["[" * 200_000, '{"class_names": "ab", "accuracy": 1}', '{"class_names": [1, 2]}', "3"]
)
def test_a_classifier_with_a_damaged_card(tmp_path, card):
    save_classifier(tmp_path, ResidualClassifier(ClassifierConfig(2, (8, 8), (4, 8))), ["a", "b"])
    (tmp_path / "classifier.json").write_text(card)
    with refused():
        load_classifier(tmp_path)


@pytest.mark.parametrize("fields", [{"layers": 10**9}, {"channels": 10**12}])
def test_a_critic_of_absurd_sizes(fields):
    with refused(*fields, "at most"):
        AdversarialRecipe(**fields)


def test_official_sizes_are_allowed():
    for depth in (16, 30, 36):
        check_fields(ns.VARConfig.of_depth(depth))
    check_fields(ns.TokenizerConfig(ns.ScaleSchedule.named("1024")))


class quickly:
    """Less than two seconds and, in Python's own memory, a few megabytes."""

    def __init__(self, megabytes: float = 8):
        self.megabytes = megabytes

    def __enter__(self) -> None:
        tracemalloc.start()
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds, most = time.monotonic() - self.start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 2 and most < self.megabytes * 2**20, (seconds, most)
