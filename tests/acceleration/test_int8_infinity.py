"""Infinity in int8. Every CPU that has the operators computes it; only those with AVX512-VNNI are fast at it."""

from __future__ import annotations

import pytest
import torch
from tiny_infinity import LENGTHS, make_infinity, make_text, make_tokenizer

import nextscale as ns
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import LateInt8Linear, ready_transformer
from nextscale.analysis.memory import transformer_bytes

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")),
    reason="this build of PyTorch multiplies no int8",
)
SCHEDULE = ns.ScaleSchedule(((1, 1), (2, 2), (8, 8), (9, 9)), 1.0)


def models(**options) -> list[ns.Infinity]:
    model = make_infinity(schedule=SCHEDULE)
    return [ready_transformer(model, torch.float32, int8=int8, **options) for int8 in (True, False)]


def test_the_matrices_of_attention_cross_attention_and_mlp_are_int8():
    model, plain = models()
    names = {name for name, module in model.named_modules() if isinstance(module, LateInt8Linear)}
    parts = ("attention.qkv", "attention.proj", "cross_attention.query", "cross_attention.proj", "mlp.up", "mlp.down")
    assert names == {f"blocks.{i}.{part}" for i in range(model.config.depth) for part in parts}
    assert not [module for module in plain.modules() if isinstance(module, LateInt8Linear)]
    assert transformer_bytes(model.config, Precision(int8=True)) > transformer_bytes(model.config, Precision())


def test_bits_are_close_to_those_of_float32():
    tokenizer, text = make_tokenizer(schedule=SCHEDULE), make_text(*LENGTHS)
    ours, theirs = (list(ns.sample_scales(tokenizer, m, text, seed=[0, 1, 2, 3], cfg=3.0)) for m in models())
    for k, (mine, plain) in enumerate(zip(ours, theirs, strict=True)):
        equal = (mine.tokens == plain.tokens).float().mean()
        assert equal == 1 if k < 2 else equal > 0.9  # scales of fewer than 64 tokens are not int8
    assert not torch.equal(ours[2].logits, theirs[2].logits)
    off = (ours[2].logits - theirs[2].logits).square().mean().sqrt()  # of the same inputs
    assert off < 0.2 * theirs[2].logits.std()


def test_an_image_does_not_depend_on_its_batch():
    tokenizer, (model, _) = make_tokenizer(schedule=SCHEDULE), models()
    text = make_text(*LENGTHS)
    *_, together = ns.sample_scales(tokenizer, model, text, seed=[0, 1, 2, 3])
    *_, alone = ns.sample_scales(tokenizer, model, text.select([2]), seed=[2])
    assert torch.equal(alone.tokens[0], together.tokens[2])
