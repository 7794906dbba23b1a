"""Models of official sizes with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny import SCHEDULES, make_tokenizer, make_var, refused

import nextscale as ns
from nextscale.benchmark.random_weights import write_random_model
from nextscale.families.var import PUBLISHED


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


def test_an_unknown_size(tmp_path):
    with refused("'d17'", "d16", "d36"):
        write_random_model(tmp_path, "d17")
