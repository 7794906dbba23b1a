"""Keys and values of the scales drawn so far."""

from __future__ import annotations

import torch

from nextscale.transformer.cache import KVCache


def test_scales_line_up_in_every_layer():
    cache = KVCache(2, 3, 4, 6, 8, torch.device("cpu"), torch.float32)
    keys, values = torch.randn(2, 3, 4, 6, 8), torch.randn(2, 3, 4, 6, 8)
    for start, end in ((0, 1), (1, 3), (3, 6)):
        for i in range(2):
            k, v = cache.layer(i).extend(keys[i, :, :, start:end], values[i, :, :, start:end])
            assert torch.equal(k, keys[i, :, :, :end]) and torch.equal(v, values[i, :, :, :end])
        cache.advance(end - start)


def test_the_last_scale_is_seen_but_not_kept():
    keys, values = torch.randn(2, 1, 2, 3, 6, 4).unbind(0)
    cache = KVCache(1, 2, 3, 4, 4, torch.device("cpu"), torch.float32)
    cache.layer(0).extend(keys[0, :, :, :4], values[0, :, :, :4])
    cache.advance(4)
    k, v = cache.layer(0).extend(keys[0, :, :, 4:], values[0, :, :, 4:])
    assert torch.equal(k, keys[0]) and torch.equal(v, values[0])
    assert cache.keys.shape == (1, 2, 3, 4, 4)


def test_nothing_is_copied_when_it_grows():
    cache = KVCache(1, 1, 1, 4, 2, torch.device("cpu"), torch.float32)
    for _ in range(4):
        k, v = cache.layer(0).extend(*torch.ones(2, 1, 1, 1, 2))
        cache.advance(1)
        assert k.data_ptr() == cache.keys.data_ptr() and v.data_ptr() == cache.values.data_ptr()
