"""Linear layers in int8, and models that contain them."""

from __future__ import annotations

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, same

import nextscale as ns
from nextscale.acceleration.int8 import Int8Linear
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import INT8_TOKENS, LateInt8Linear, ReadyLinear, ready_transformer
from nextscale.errors import InputError
from nextscale.runtime.device import DTYPES, has_fast_int8

CPU = torch.device("cpu")
fast = pytest.mark.skipif(not has_fast_int8(CPU), reason="this machine multiplies no int8")
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def draw(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@fast
@pytest.mark.parametrize("gelu", [False, True])
@BOTH
@pytest.mark.parametrize("result", [torch.float32, torch.bfloat16])
def test_results_are_near_in_every_row(dtype, gelu, result):
    weight, bias, x = draw(96, 512) / 512**0.5, draw(96, seed=1), draw(300, 512, seed=2).to(dtype)
    x[7] *= 1000  # a row has its own scale
    x[8] = 0
    expected = torch.nn.functional.linear(x.float(), weight, bias)
    expected = torch.nn.functional.gelu(expected, approximate="tanh") if gelu else expected
    found = Int8Linear(weight, bias, result, gelu)(x)
    error = (found.float() - expected).square().mean(1).sqrt() / x.float().square().mean(1).sqrt().clamp_min(1)
    assert found.dtype == result
    assert 1e-4 < error.max() < 0.03


@fast
@BOTH
def test_a_row_does_not_depend_on_the_others(dtype):
    layer, x = Int8Linear(draw(96, 512), None, dtype), draw(2, 350, 512)
    together = layer(x)
    for rows in (1, 2, 50, 349):
        assert torch.equal(layer(x[:1, :rows]), together[:1, :rows])


@fast
@pytest.mark.parametrize("gelu", [False, True])
@BOTH
def test_only_scales_of_many_tokens_are_int8_whatever_the_batch(gelu, dtype):
    weight, bias = draw(96, 512), draw(96, seed=1)
    late, few, many = (kind(weight, bias, dtype, gelu) for kind in (LateInt8Linear, ReadyLinear, Int8Linear))
    for batch in (1, 100):
        for tokens in (1, INT8_TOKENS - 1, INT8_TOKENS):
            x = draw(batch, tokens, 512, seed=tokens)
            right, wrong = (few, many) if tokens < INT8_TOKENS else (many, few)
            assert torch.equal(late(x), right(x)) and not torch.equal(late(x), wrong(x))


@pytest.fixture(params=["bfloat16", "float32"])
def beside(request, monkeypatch) -> str:
    """What is not int8, on a CPU that is fast in bfloat16 and on one that is not."""
    monkeypatch.setattr(
        "nextscale.acceleration.precision.has_fast_bfloat16", lambda device: request.param == "bfloat16"
    )
    return request.param


@fast
def test_only_the_blocks_matrices_are_int8(beside):
    model = make_var(SCHEDULES["square"])
    ready = ready_transformer(model, DTYPES[beside], int8=True)
    names = {name for name, module in ready.named_modules() if isinstance(module, LateInt8Linear)}
    parts = ("attention.qkv", "attention.proj", "mlp.up", "mlp.down")
    assert names == {f"blocks.{i}.{part}" for i in range(model.config.depth) for part in parts}
    assert ready.compute_dtype == DTYPES[beside]


@fast
def test_a_pipeline_draws_only_the_later_scales_in_int8(beside):
    schedule = ns.ScaleSchedule.square((1, 2, 7, 8, 9))
    tokenizer, model = make_tokenizer(schedule), make_var(schedule)
    drawn = {}
    for dtype in ("int8", beside):
        pipe = ns.Pipeline(tokenizer, model, dtype=dtype)
        drawn[dtype] = list(pipe.scales([0, 1], seed=[1, 2], cfg=2.0))
        alone = list(pipe.scales([1], seed=[2], cfg=2.0))
        assert same([step.logits[1:] for step in drawn[dtype]], [step.logits for step in alone])
    for k, (ours, theirs) in enumerate(zip(*drawn.values(), strict=True)):
        assert torch.equal(ours.logits, theirs.logits) == (k < 3)
    assert torch.equal(drawn["int8"][2].tokens, drawn[beside][2].tokens)
    first = [steps[3].logits for steps in drawn.values()]  # of the same tokens
    assert 0 < (first[0] - first[1]).abs().max() < 0.5


def test_other_devices_refuse(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_vnni_supported", lambda: False)
    for device in (CPU, torch.device("cuda")):
        with pytest.raises(InputError, match="int8 needs a CPU with AVX512-VNNI"):
            Precision.parse("int8-float32", 64, device)
