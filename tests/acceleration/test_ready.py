"""Models prepared for sampling have the same results as the originals."""

from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, SCHEDULES, make_tokenizer, make_var, random_tokens, same

import nextscale as ns
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import ReadyLinear, make_ready, ready_tokenizer, ready_transformer
from nextscale.acceleration.winograd import WinogradConv3x3
from nextscale.runtime.device import multiplies_by_onednn

SQUARE = SCHEDULES["square"]
CPU = torch.device("cpu")


def logits_of(model: ns.VAR, tokenizer: ns.ImageTokenizer) -> torch.Tensor:
    """Scale by scale, given tokens."""
    labels = torch.tensor([0, CLASSES])
    with torch.no_grad():
        canvases = [step.canvas for step in tokenizer.pyramid.accumulate(random_tokens(SQUARE))]
        condition, cache = model.condition(labels), model.make_cache(model.schedule, 2)
        pairs = zip(canvases, tokenizer.schedule.visits[1:], strict=False)
        looks = [None, *(tokenizer.pyramid.look(canvas, visit) for canvas, visit in pairs)]
        features = [
            model.forward_scale(visit, look, condition, cache)
            for visit, look in zip(model.schedule.visits, looks, strict=True)
        ]
        return torch.cat([model.logits(part) for part in features], dim=1)


@pytest.mark.parametrize("options", [{}, {"shared_adaln": True}, {"l2_norm": False}], ids=str)
def test_in_float32_the_logits_are_the_model_s(options):
    model, tokenizer = make_var(SQUARE, **options), make_tokenizer(SQUARE)
    ready = ready_transformer(model, torch.float32)
    torch.testing.assert_close(logits_of(ready, tokenizer), logits_of(model, tokenizer), atol=1e-4, rtol=1e-4)
    arguments = {"labels": [0, 1, 2], "seed": 5, "top_k": 10, "top_p": 0.9}
    assert same(ns.sample(tokenizer, ready, **arguments).tokens, ns.sample(tokenizer, model, **arguments).tokens)


def test_in_bfloat16_they_are_nearer_than_under_autocast():
    model, tokenizer = make_var(SQUARE), make_tokenizer(SQUARE)
    exact = logits_of(model, tokenizer)
    ready = ready_transformer(model, torch.bfloat16)
    near = logits_of(ready, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = logits_of(model, tokenizer)
    assert near.dtype == torch.float32 and ready.compute_dtype == torch.bfloat16
    assert 0 < (near - exact).square().mean() < (autocast - exact).square().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_row_does_not_depend_on_the_others(dtype, gelu):
    if not multiplies_by_onednn(CPU, dtype):
        pytest.skip("this machine packs no such matrices")
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(size, generator=generator) for size in ((96, 512), (96,), (700, 512)))
    layer = ReadyLinear(weight, bias, dtype, gelu)
    together = layer(x)
    expected = torch.nn.functional.linear(x.to(dtype), weight.to(dtype), bias.to(dtype))
    expected = torch.nn.functional.gelu(expected, approximate="tanh") if gelu else expected
    torch.testing.assert_close(together, expected, atol=1e-3 if dtype == torch.float32 else 0.5, rtol=1e-2)
    for rows in (1, 2, 3, 50, 128, 699):
        assert torch.equal(layer(x[:rows]), together[:rows])


def test_the_models_are_not_changed():
    tokenizer, model = make_tokenizer(SQUARE), make_var(SQUARE)
    before = [t.clone() for part in (tokenizer, model) for t in part.state_dict().values()]
    for dtype in (torch.float32, torch.bfloat16):
        make_ready(tokenizer, model, Precision(dtype))
    assert same(before, [t for part in (tokenizer, model) for t in part.state_dict().values()])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
def test_a_wide_decoder_does_with_fewer_products(dtype, error):
    config = ns.TokenizerConfig(
        channels=128, multipliers=(1, 1), num_blocks=1, schedule=ns.ScaleSchedule.square((1, 32))
    )
    tokenizer = ns.ImageTokenizer(config)
    ready = ready_tokenizer(tokenizer, dtype)
    assert any(isinstance(module, WinogradConv3x3) for module in ready.decoder.modules())
    assert ready.state_dict().keys() == tokenizer.state_dict().keys()
    tokens = random_tokens(config.schedule)
    expected, decoded = tokenizer.decode(tokens), ready.decode(tokens)
    torch.testing.assert_close(decoded, expected, atol=error, rtol=0)
    assert not torch.equal(decoded, expected)


def test_only_the_decoder_is_rounded():
    tokenizer = make_tokenizer(SQUARE)
    ready = ready_tokenizer(tokenizer, torch.bfloat16)
    for name, parameter in ready.named_parameters():
        rounded = name.startswith(("decoder", "post_quant_conv")) and "norm" not in name
        assert parameter.dtype == (torch.bfloat16 if rounded else torch.float32), name
    tokens = random_tokens(SQUARE)
    torch.testing.assert_close(ready.decode(tokens), tokenizer.decode(tokens), atol=0.1, rtol=0)


def test_auto_is_bfloat16_for_large_models_where_that_is_fast(monkeypatch):
    for fast in (False, True):
        monkeypatch.setattr("nextscale.acceleration.precision.has_fast_bfloat16", lambda device, fast=fast: fast)
        monkeypatch.setattr("nextscale.acceleration.precision.has_fast_int8", lambda device: True)
        large, small = (ns.VARConfig.of_depth(depth).width for depth in (16, 4))
        assert Precision.parse("auto", large, CPU).name == ("bfloat16" if fast else "float32")
        assert Precision.parse("auto", small, CPU).name == "float32"
        assert Precision.parse("int8", small, CPU).name == ("int8-bfloat16" if fast else "int8-float32")
        assert Precision.parse("int8-bfloat16", large, CPU).name == "int8-bfloat16"
