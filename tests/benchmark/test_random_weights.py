"""Models of official sizes with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_infinity import make_infinity
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.benchmark.random_weights import official_size, write_random_model
from nextscale.benchmark.sampling import random_requests
from nextscale.families import infinity
from nextscale.families.var import PUBLISHED
from nextscale.transformer.infinity_config import InfinityConfig


def test_the_folder_loads_and_draws(tmp_path, monkeypatch):
    square = SCHEDULES["square"]
    tokenizer, model = make_tokenizer(square).config, make_var(square, l2_norm=True).config
    small = replace(PUBLISHED["d16"], tokenizer=tokenizer, model=model)
    monkeypatch.setitem(PUBLISHED, "d16", small)
    write_random_model(tmp_path, "d16", seed=1)
    pipeline = ns.Pipeline.from_pretrained(tmp_path, device="cpu")
    assert (pipeline.tokenizer.config, pipeline.model.config) == (tokenizer, model)
    *_, step = pipeline.scales([0, 1], seed=0)
    assert step.image().std() > 0.01 and torch.isfinite(step.logits).all() and step.logits.std() > 0.1


def test_a_text_to_image_model(tmp_path, monkeypatch):
    tokenizer, model = make_bits_tokenizer().config, make_infinity().config
    found = infinity.FAMILY, tokenizer, model
    monkeypatch.setattr("nextscale.benchmark.random_weights.official_size", lambda name: found)
    write_random_model(tmp_path, "infinity-2b")
    pipeline = ns.Pipeline.from_pretrained(tmp_path, device="cpu")
    assert (pipeline.tokenizer.config, pipeline.model.config) == (tokenizer, model)
    assert {p.dtype for p in pipeline.model.parameters()} == {torch.bfloat16}
    *_, step = pipeline.scales(random_requests(pipeline, 2), seed=0)
    assert step.image().std() > 0.01 and torch.isfinite(step.logits).all() and step.logits.std() > 0.1


@pytest.mark.parametrize(("name", "size"), [("infinity-2b", "2b"), ("layer12", "layer12"), ("infinity-8b", "8b")])
def test_official_sizes(name, size):
    family, tokenizer, model = official_size(name)
    assert family is infinity.FAMILY and model == InfinityConfig.named(size)
    assert tokenizer.token_dim == model.bits and tokenizer.patchify == (size == "8b")


def test_an_unknown_size(tmp_path):
    with refused("'d17'", "d16", "d36", "layer12", "2b"):
        write_random_model(tmp_path, "d17")
