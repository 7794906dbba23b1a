"""Tokenizers without gradients have the same results as the originals."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, random_images, random_tokens, same

from nextscale.acceleration.decoding import (
    FewImagesTokenizer,
    InPlaceResidualBlock,
    SteadyResidualConv,
    images_at_once,
    without_gradients,
)
from nextscale.acceleration.upsample import FourKernelUpsample
from nextscale.tokenizer.autoencoder import ResidualBlock, Upsample
from nextscale.tokenizer.pyramid import ResidualConv

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kept", [False, True])
@torch.no_grad()
def test_four_kernels_do_the_work_of_one(layout, kept):
    plain = Upsample(32)
    fast = FourKernelUpsample(plain)
    if kept:
        fast.keep_kernels()
    x = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    torch.testing.assert_close(fast(x.contiguous(memory_format=layout)), plain(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("widths", [(32, 32), (32, 64)])
@torch.no_grad()
def test_a_sum_in_place_is_the_sum(widths):
    block = ResidualBlock(*widths)
    x = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert torch.equal(InPlaceResidualBlock(block)(x), block(x))
    assert torch.equal(x, before)


def test_tokens_and_images_are_those_of_the_plain_tokenizer(tiny_tokenizer):
    fast = without_gradients(tiny_tokenizer)
    images, tokens = random_images(tiny_tokenizer), random_tokens(tiny_tokenizer.schedule)
    given = images.clone()
    assert same(fast.encode(images), tiny_tokenizer.encode(images)) and torch.equal(images, given)
    torch.testing.assert_close(fast.decode(tokens), tiny_tokenizer.decode(tokens), atol=1e-5, rtol=0)


def test_weights_are_shared_under_the_same_names_and_do_not_change():
    tokenizer = deepcopy(make_tokenizer(SCHEDULES["square"]))
    fast = without_gradients(tokenizer)
    ours, theirs = fast.state_dict(), tokenizer.state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    assert all(p.requires_grad for p in tokenizer.parameters()) and not any(p.requires_grad for p in fast.parameters())


def test_a_few_images_at_a_time(monkeypatch):
    tokenizer = make_tokenizer(SCHEDULES["square"])
    fast, tokens = without_gradients(tokenizer), random_tokens(SCHEDULES["square"], 5)
    seen = []
    monkeypatch.setattr("nextscale.acceleration.decoding.CPU_DECODING_BYTES", 2 * 5 * 8 * 8 * 32 * 4)
    assert images_at_once(fast.config, CPU, math.prod(fast.config.image_size), 4) == 2
    decode = fast._decode
    monkeypatch.setattr(fast, "_decode", lambda canvas: seen.append(len(canvas)) or decode(canvas))
    torch.testing.assert_close(fast.decode(tokens), tokenizer.decode(tokens), atol=1e-5, rtol=0)
    assert seen == [2, 2, 1]
    monkeypatch.setattr("nextscale.acceleration.decoding.CPU_DECODING_BYTES", 1)
    assert images_at_once(fast.config, CPU, math.prod(fast.config.image_size), 4) == 1


def test_a_phi_convolution_does_not_depend_on_the_batch():
    conv = make_tokenizer(SCHEDULES["square"]).pyramid.phi[0]
    assert isinstance(conv, ResidualConv)
    steady = SteadyResidualConv(conv)
    x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    together = steady(x)
    assert torch.equal(together, conv(x))
    for i in range(3):
        assert torch.equal(steady(x[i : i + 1]), together[i : i + 1])


def test_a_copy_of_a_copy():
    fast = without_gradients(make_tokenizer(SCHEDULES["square"]))
    tokens = random_tokens(SCHEDULES["square"])
    assert isinstance(fast, FewImagesTokenizer)
    assert torch.equal(without_gradients(fast).decode(tokens), fast.decode(tokens))
