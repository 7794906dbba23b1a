"""With offload each model is prepared when it is used, and freed afterwards. The images are the same, bit for bit."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import SCHEDULES, make_tokenizer, make_var, refused, same
from tiny_infinity import WordEncoder, make_infinity
from tiny_prompts import PROMPTS, make_parts, plain
from tiny_t5 import write_t5

import nextscale as ns
from nextscale.acceleration import offload
from nextscale.acceleration.offload import OffloadedModels, OnDemand
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.prepared import Preparation

TEXT: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def alive(monkeypatch) -> Iterator[list[tuple[str, list[str]]]]:
    """What is prepared, and the prepared models that exist then."""
    events: list[tuple[str, list[str]]] = []
    models: list[tuple[str, weakref.ref]] = []

    def watch(name: str) -> None:
        prepare = getattr(offload, name)

        def watched(*arguments):
            events.append((name, [other for other, model in models if model() is not None]))
            model = prepare(*arguments)
            models.append((name, weakref.ref(model)))
            return model

        monkeypatch.setattr(offload, name, watched)

    watch("make_transformer")
    watch("make_tokenizer")
    events.clear()
    yield events
    assert not [name for name, model in models if model() is not None]


def offloaded(**options) -> ns.Pipeline:
    return ns.Pipeline(*make_parts(), **TEXT, text_encoder=WordEncoder(), offload=True, **options)


@pytest.fixture(autouse=True)
def without_garbage_collection():
    """Models are freed as soon as nothing refers to them."""
    gc.disable()
    yield
    gc.enable()


def test_images_are_the_same_and_one_model_exists_at_a_time(alive):
    pipeline = offloaded()
    for seed in (3, [5, 6]):
        ours, theirs = (pipe(PROMPTS[:2], seed=seed, cfg=3.0) for pipe in (pipeline, plain()))
        assert same(ours.tokens, theirs.tokens)
        assert [image.tobytes() for image in ours.images] == [image.tobytes() for image in theirs.images]
    assert alive == 2 * [("make_transformer", []), ("make_tokenizer", [])]


def test_classes(alive):
    square = SCHEDULES["square"]
    parts = make_tokenizer(square), make_var(square)
    ours, theirs = (ns.Pipeline(*parts, **TEXT, offload=on)([0, 1, 2], seed=[1, 2, 3]) for on in (True, False))
    assert same(ours.tokens, theirs.tokens)
    assert [image.tobytes() for image in ours.images] == [image.tobytes() for image in theirs.images]
    assert [what for what, _ in alive] == ["make_transformer", "make_tokenizer"]


def test_edits_and_images_of_scales(alive):
    photo = Image.new("RGB", (32, 32), (200, 30, 60))
    ours, theirs = (pipe.edit(photo, box=(0, 0, 1, 0.5), labels="a bee", seed=[4]) for pipe in (offloaded(), plain()))
    assert ours.images[0].tobytes() == theirs.images[0].tobytes()
    alive.clear()
    steps = list(offloaded().scales("a bee", seed=[1]))
    theirs = list(plain().scales("a bee", seed=[1]))
    assert torch.equal(steps[2].image(), theirs[2].image())
    assert [what for what, _ in alive] == ["make_transformer", "make_tokenizer"]


def test_two_calls_at_the_same_time_share_a_transformer(alive):
    pipeline = offloaded()
    first, second = pipeline.scales("a bee", seed=[1]), pipeline.scales("a fox", seed=[2])
    images = [next(run) and run.result().images for run in (first, second)]
    assert torch.equal(images[1], plain().scales("a fox", seed=[2]).result().images)
    assert [what for what, _ in alive].count("make_transformer") == 1


def test_an_abandoned_call_frees_the_transformer(alive):
    run = offloaded().scales("a bee", seed=[1])
    next(run)
    del run
    assert alive == [("make_transformer", [])]


def test_the_weights_stay_where_they_are():
    """Only prepared copies are moved to another device, and no encoder."""
    sources = make_parts()
    models = OffloadedModels(*sources, Precision(), torch.device("meta"))
    assert {p.device.type for module in sources for p in module.parameters()} == {"cpu"}
    model = models.get()[1]
    assert {p.device.type for p in model.state_dict().values()} == {"meta"}
    layers = [m for m in model.modules() if hasattr(m, "packed")]
    assert layers and all(m.weight.device.type == "meta" and not m.packed for m in layers)
    decoder = models.decoder()
    there = {name.partition(".")[0] for name, p in decoder.named_parameters() if p.device.type == "meta"}
    here = {name.partition(".")[0] for name, p in decoder.named_parameters() if p.device.type == "cpu"}
    assert there == {"decoder"} and here == {"encoder"}


def test_the_text_encoder_is_unloaded(tmp_path):
    t5 = write_t5(tmp_path / "t5", d_model=make_infinity().config.text_width)
    pipes: list[Any] = [ns.Pipeline(*make_parts(), **TEXT, text_encoder=t5, offload=on) for on in (True, False)]
    ours, theirs = (pipe("a fox", seed=[1]).images[0].tobytes() for pipe in pipes)
    assert ours == theirs
    assert [pipe.requests.encoder._loaded.is_loaded for pipe in pipes] == [False, True]
    pipes[0].set_text_encoder(t5)
    assert not pipes[0].requests.keeps_encoder and pipes[1].requests.keeps_encoder


@pytest.mark.parametrize("pair", [("offload", "compile"), ("offload", "cuda_graph"), ("tiles", "compile")])
def test_options_that_exclude_each_other(pair):
    first, second = pair
    with refused(f"{first} cannot be combined with {second}"):
        Preparation(Precision(), torch.device("cuda"), **{first: True, second: True})


def test_on_demand():
    made = []
    shared = OnDemand(lambda: made.append(1) or torch.nn.Identity())
    first = shared.get()
    assert shared.get() is first and len(made) == 1
    del first
    assert shared.get() is not None and len(made) == 2
