"""Sign bits, and tokens that cover 2 x 2 positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_images, refused, same
from tiny_infinity import DIM, SCHEDULES, make_tokenizer, random_bits

import nextscale as ns
from nextscale.tokenizer.bsq import SignBits
from nextscale.tokenizer.pyramid import ResidualPyramid

few = settings(deadline=None, max_examples=25)


def pyramid_of(patchify: bool) -> ResidualPyramid:
    return make_tokenizer(patchify).pyramid


# ---- the quantizer -----------------------------------------------------------------------------------------------


def test_zero_gives_bit_0():
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-30, 5.0, -5.0]])
    assert SignBits(6).nearest(x).tolist() == [[False, False, True, False, True, False]]


def test_the_length_of_a_vector_does_not_matter():
    bits, x = SignBits(8), torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bits.nearest(x), bits.nearest(F.normalize(x, dim=-1)))
    assert torch.equal(bits.nearest(x), bits.nearest(1e-20 * x))
    assert bits.nearest(x).dtype == torch.bool


@pytest.mark.parametrize("dim", [1, 8, 14, 32])
@pytest.mark.parametrize("patch", [1, 2])
def test_codes_are_unit_vectors(dim, patch):
    bits = SignBits(dim, patch)
    assert bits.dim == dim * patch**2 and bits.token_shape == (bits.dim,)
    tokens = torch.rand(3, 4, bits.dim, generator=torch.Generator().manual_seed(0)) < 0.5
    codes = bits.codes(tokens)
    assert torch.equal(codes > 0, tokens) and torch.equal(bits.nearest(codes), tokens)
    torch.testing.assert_close(codes.abs(), torch.full_like(codes, 1 / math.sqrt(dim)))
    at_each_position = codes.unflatten(-1, (dim, patch**2)).norm(dim=-2)
    torch.testing.assert_close(at_each_position, torch.ones_like(at_each_position))


def test_8_bits():
    codes = SignBits(8).codes(torch.tensor([[True, False]]))
    torch.testing.assert_close(codes, torch.tensor([[0.35355339, -0.35355339]]), atol=1e-7, rtol=0)


def test_mixed_codes_lie_between_the_two():
    bits = SignBits(4)
    sure = F.one_hot(torch.tensor([[0, 1, 1, 0]]), 2).float()
    torch.testing.assert_close(bits.mix(sure), bits.codes(torch.tensor([[False, True, True, False]])))
    even = torch.full((1, 4, 2), 0.5)
    assert not bits.mix(even).any()


def test_it_has_no_parameters():
    tokenizer = make_tokenizer()
    assert not list(tokenizer.pyramid.parameters())
    assert all(name.startswith(("encoder.", "decoder.")) for name in tokenizer.state_dict())


# ---- patchify ----------------------------------------------------------------------------------------------------


def test_the_order_of_patchify():
    """Channel c at the offset (y, x) in a square of 2 x 2 is entry 4 c + 2 y + x of the token."""
    pyramid, schedule = pyramid_of(True), SCHEDULES["wide"]
    canvas = torch.randn(2, DIM, 6, 10, generator=torch.Generator().manual_seed(0))
    look = pyramid.look(canvas, schedule.visits[-1])
    assert look.shape == (2, 15, 4 * DIM)
    for c, y, x in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (3, 1, 0), (5, 1, 1)):
        expected = canvas[:, c, y::2, x::2].flatten(1)
        assert torch.equal(look[..., 4 * c + 2 * y + x], expected)


@pytest.mark.parametrize("patchify", [False, True])
def test_a_token_is_put_where_it_was_taken(patchify):
    pyramid, schedule = pyramid_of(patchify), SCHEDULES["wide"]
    (tokens,) = random_bits(ns.ScaleSchedule((schedule.final_size,)), bits=pyramid.codebook.dim)
    last = schedule.visits[-1]
    canvas = pyramid.gain(pyramid.codebook.codes(tokens), last, pyramid.canvas_size(schedule))
    assert torch.equal(pyramid.codebook.nearest(pyramid.look(canvas, last)), tokens)


# ---- the two moves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("patchify", [False, True])
def test_the_walk_by_definition(name, patchify):
    """Area for residuals, bilinear for codes and inputs, on a grid that patchify doubles."""
    schedule, pyramid, patch = SCHEDULES[name], pyramid_of(patchify), 2 if patchify else 1
    h, w = (patch * side for side in schedule.final_size)
    features = torch.randn(2, DIM, h, w, generator=torch.Generator().manual_seed(0))
    tokens = pyramid.encode(features, schedule)
    canvas, inputs = torch.zeros_like(features), []
    for k, (rows, columns) in enumerate(schedule.sizes):
        size = patch * rows, patch * columns
        if k:
            inputs.append(F.interpolate(canvas, size=size, mode="bilinear", align_corners=False))
        rest = F.adaptive_avg_pool2d(features - canvas, size)
        codes = torch.where(rest > 0, 1.0, -1.0) / math.sqrt(DIM)
        found = tokens[k].float().mT.unflatten(2, (rows, columns))
        assert torch.equal(F.pixel_shuffle(found, patch) > 0, rest > 0)
        canvas = canvas + F.interpolate(codes, size=(h, w), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pyramid.canvas(tokens, schedule), canvas)
    looks = pyramid.next_inputs(tokens, schedule)
    assert looks.shape == (2, schedule.num_tokens - 1, patch**2 * DIM)
    for part, expected in zip(schedule.slices[1:], inputs, strict=True):
        expected = F.pixel_unshuffle(expected, patch).flatten(2).mT
        torch.testing.assert_close(looks[:, part.start - 1 : part.stop - 1], expected)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.booleans(),
)
@few
def test_any_number_of_bits_and_any_sizes(sizes, dim, patchify):
    final = max(h for h, _ in sizes), max(w for _, w in sizes)
    schedule = ns.ScaleSchedule((*sizes, final))
    pyramid = ResidualPyramid(schedule, SignBits(dim, 2 if patchify else 1), 0.0, moves=pyramid_of(patchify).moves)
    features = torch.randn(1, dim, *pyramid.canvas_size(schedule), generator=torch.Generator().manual_seed(dim))
    tokens = pyramid.encode(features)
    assert [t.shape[1:] for t in tokens] == [(n, pyramid.codebook.dim) for n in schedule.tokens_per_scale]
    *earlier, last = pyramid.accumulate(tokens)
    before = earlier[-1].canvas
    lacking = pyramid.residual(features - before, last.visit)
    assert torch.equal(lacking > 0, tokens[-1])


# ---- the tokenizer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patchify", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_images_of_any_size(name, patchify):
    tokenizer, schedule = make_tokenizer(patchify), SCHEDULES[name]
    h, w = schedule.final_size
    images = torch.rand(2, 3, 4 * h, 4 * w, generator=torch.Generator().manual_seed(2)) * 2 - 1
    tokens = tokenizer.encode(images, schedule)
    assert [t.shape for t in tokens] == [(2, n, tokenizer.config.token_dim) for n in schedule.tokens_per_scale]
    assert all(t.dtype == torch.bool for t in tokens)
    decoded = tokenizer.decode(tokens, schedule)
    assert decoded.shape == images.shape and decoded.abs().max() <= 1
    assert tokenizer.encode_features(images, schedule).shape == (2, DIM, *tokenizer.pyramid.canvas_size(schedule))


def test_the_own_schedule_is_the_default():
    tokenizer = make_tokenizer()
    images = random_images(tokenizer)
    tokens = tokenizer.encode(images)
    assert same(tokens, tokenizer.encode(images, SCHEDULES["square"]))
    assert torch.equal(tokenizer.decode(tokens), tokenizer.decode(tokens, SCHEDULES["square"]))


@pytest.mark.parametrize("patchify", [False, True])
def test_a_folder_and_back(patchify, tmp_path):
    tokenizer = make_tokenizer(patchify)
    tokenizer.save_pretrained(tmp_path)
    loaded = ns.ImageTokenizer.from_pretrained(tmp_path)
    assert loaded.config == tokenizer.config
    images = random_images(tokenizer)
    assert same(loaded.encode(images), tokenizer.encode(images))
    assert torch.equal(loaded.decode(loaded.encode(images)), tokenizer.decode(tokenizer.encode(images)))


def test_images_and_tokens_of_another_size():
    tokenizer, schedule = make_tokenizer(), SCHEDULES["wide"]
    with refused("12, 20", "12, 12"):
        tokenizer.encode(torch.zeros(1, 3, 12, 12), schedule)
    with refused(3, 2):
        tokenizer.decode(random_bits(schedule)[:2], schedule)
    with refused("scale 0", f"(2, 1, {DIM})", f"(2, 1, {DIM + 1})"):
        tokenizer.decode(random_bits(schedule, bits=DIM + 1), schedule)
    with refused("scale 1", f"(2, 6, {DIM})", f"(2, 4, {DIM})"):
        tokenizer.decode(random_bits(SCHEDULES["square"]), schedule)
    with refused("bool", "int64"):
        tokenizer.decode([bits.long() for bits in random_bits(schedule)], schedule)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quantizer": "signs"}, ("codebook or bits", "'signs'")),
        ({"quantizer": "codebook"}, ("patchify needs quantizer bits",)),
        ({"code_dim": 0}, ("code_dim", 0)),
        ({"channels": 40}, (40, 32, 24)),
    ],
)
def test_impossible_configurations(fields, words):
    with refused(*words):
        ns.TokenizerConfig.infinity(**({"patchify": True} | fields))


def test_official_sizes():
    square, patchify = ns.TokenizerConfig.infinity(32), ns.TokenizerConfig.infinity(14, True)
    assert (square.token_dim, square.downsampling, square.image_size) == (32, 16, (1024, 1024))
    assert (patchify.token_dim, patchify.downsampling, patchify.image_size) == (56, 16, (1024, 1024))
    small = ns.ScaleSchedule.infinity("0.06M")
    canvas = ResidualPyramid(small, SignBits(14, 2), 0.0, moves=pyramid_of(True).moves).empty_canvas(1)
    assert canvas.shape == (1, 14, 32, 32)
