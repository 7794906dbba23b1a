"""Compiled models sample the same images as uncompiled models."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, same
from tiny_infinity import make_infinity, make_text
from tiny_infinity import make_tokenizer as make_bits
from torch._dynamo.utils import counters

import nextscale as ns
from nextscale.acceleration.compiled import compile_blocks, compile_parts
from nextscale.acceleration.ready import ready_tokenizer, ready_transformer

TWELVE = ns.ScaleSchedule.square(range(1, 13))
ARGUMENTS = {"labels": [0, 1], "seed": 3, "top_k": 10, "top_p": 0.9}


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(None, id="plain", marks=pytest.mark.long),
        pytest.param(torch.float32, id="ready", marks=pytest.mark.long),
        pytest.param(torch.bfloat16, id="ready, bfloat16", marks=pytest.mark.long),
    ],
)
def test_every_scale_is_compiled_once_for_all_blocks_and_draws_the_same(monkeypatch, dtype):
    monkeypatch.setattr("nextscale.acceleration.ready.multiplies_by_onednn", lambda *_: False)  # as on a GPU,
    monkeypatch.setattr("nextscale.acceleration.cpu_attention.WHOLE_HEAD", 0)  # with its attention
    tokenizer, model = deepcopy(make_tokenizer(TWELVE)), deepcopy(make_var(TWELVE))
    if dtype:
        tokenizer, model = ready_tokenizer(tokenizer, dtype), ready_transformer(model, dtype)
    expected = ns.sample(tokenizer, model, **ARGUMENTS)
    compile_parts(tokenizer, model, backend="eager")
    for _ in range(2):
        found = ns.sample(tokenizer, model, **ARGUMENTS)
        assert same(found.tokens, expected.tokens) and torch.equal(found.images, expected.images)
    assert counters["stats"]["unique_graphs"] == 12 + 1  # more than the compiler's limit for one function; the decoder
    assert not counters["graph_break"]


def test_text_to_image_is_compiled_with_its_text_and_positions(monkeypatch):
    monkeypatch.setattr("nextscale.acceleration.cpu_attention.WHOLE_HEAD", 0)  # as on a GPU
    tokenizer, model = deepcopy(make_bits()), deepcopy(make_infinity())
    compiled = deepcopy(model)
    compile_blocks(compiled, backend="eager")
    for lengths in ((3, 7), (5, 2), (12, 1)):
        text = make_text(*lengths)
        expected = ns.sample(tokenizer, model, text, seed=3)
        found = ns.sample(tokenizer, compiled, text, seed=3)
        assert same(found.tokens, expected.tokens) and torch.equal(found.images, expected.images)
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # what the compiler imports
def test_the_compiler_s_own_code_draws_the_same():
    schedule = SCHEDULES["single"]
    tokenizer, model = make_tokenizer(schedule), deepcopy(make_var(schedule, depth=1))
    expected = ns.sample(tokenizer, model, **ARGUMENTS)
    compile_blocks(model)
    found = ns.sample(tokenizer, model, **ARGUMENTS)
    assert same(found.tokens, expected.tokens)
    torch.testing.assert_close(found.images, expected.images, atol=1e-5, rtol=0)
