"""Properties of the canvas that all walks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from tiny import DIM, make_tokenizer, random_tokens, same

import nextscale as ns
from nextscale.tokenizer.pyramid import ResidualPyramid, assign_phi

VARIANTS = (
    {},
    {"znorm": True},
    {"quant_resi": 0.0},
    {"num_phi": 0},
    {"num_phi": 1},
    {"quant_resi": -0.3, "num_phi": 2},
)


@pytest.fixture(params=VARIANTS, ids=str)
def pyramid(request, schedule) -> Iterator[ResidualPyramid]:
    with torch.no_grad():
        yield make_tokenizer(schedule, **request.param).pyramid


@pytest.fixture
def features(schedule) -> torch.Tensor:
    return torch.randn(2, DIM, *schedule.final_size, generator=torch.Generator().manual_seed(0))


def test_every_scale_encodes_what_the_canvas_still_lacks(pyramid, features):
    tokens = pyramid.encode(features)
    canvas = pyramid.empty_canvas(2)
    for step in pyramid.accumulate(tokens):
        lacking = pyramid.residual(features - canvas, step.visit)
        codes = pyramid.codebook
        if codes.cosine:
            score = -torch.cosine_similarity(lacking[..., None, :], codes.weight, dim=-1)
        else:
            score = torch.cdist(lacking, codes.weight)
        chosen = score.gather(-1, tokens[step.index][..., None])
        torch.testing.assert_close(chosen, score.min(dim=-1, keepdim=True).values, atol=1e-5, rtol=1e-5)
        canvas = step.canvas


def test_training_walks_like_encoding(pyramid, features):
    quantized = pyramid.quantize(features)
    assert same(quantized.tokens, pyramid.encode(features))
    torch.testing.assert_close(quantized.canvas, pyramid.canvas(quantized.tokens), atol=1e-5, rtol=0)


def test_teacher_forcing_walks_like_accumulating(pyramid, schedule):
    tokens = random_tokens(schedule)
    inputs = pyramid.next_inputs(tokens)
    assert inputs.shape == (2, schedule.num_tokens - schedule.tokens_per_scale[0], DIM)
    looks = [inputs[:, :0]]
    for size, step in zip(schedule.sizes[1:], pyramid.accumulate(tokens), strict=False):
        looks.append(F.interpolate(step.canvas, size, mode="area").flatten(2).mT)
    torch.testing.assert_close(inputs, torch.cat(looks, dim=1), atol=1e-6, rtol=0)


def test_the_canvas_is_the_sum_of_the_gains(pyramid, schedule):
    steps = list(pyramid.accumulate(random_tokens(schedule)))
    torch.testing.assert_close(steps[-1].canvas, sum(step.gain for step in steps), atol=1e-5, rtol=0)
    assert [step.index for step in steps] == list(range(schedule.num_scales))


def test_the_walk_shows_the_canvas_before_the_scale(pyramid, schedule):
    tokens, seen = random_tokens(schedule), []

    def choose(visit, canvas):
        seen.append(canvas)
        return pyramid.codebook.codes(tokens[visit.index])

    canvases = [step.canvas for step in pyramid.walk(choose, pyramid.empty_canvas(2))]
    assert not seen[0].any()
    assert same(seen[1:], canvases[:-1])


def test_later_tokens_change_no_earlier_canvas(pyramid, schedule):
    tokens = random_tokens(schedule)
    last = (tokens[-1] + 1) % pyramid.codebook.size
    before, after = (list(pyramid.accumulate(t)) for t in (tokens, [*tokens[:-1], last]))
    assert same([step.canvas for step in before[:-1]], [step.canvas for step in after[:-1]])
    assert not torch.equal(before[-1].canvas, after[-1].canvas)


def test_a_gain_is_upsampling_then_phi(pyramid, schedule):
    codes = pyramid.codebook.codes(random_tokens(schedule)[0])
    grid = codes.mT.unflatten(2, schedule.sizes[0])
    if schedule.num_scales > 1:
        grid = F.interpolate(grid, schedule.final_size, mode="bicubic")
    if pyramid.phi:
        phi = pyramid.phi[pyramid.phi_of_scale[0]]
        grid = (1 - phi.ratio) * grid + phi.ratio * F.conv2d(grid, phi.weight, phi.bias, padding=1)
    torch.testing.assert_close(pyramid.gain(codes, schedule.visits[0]), grid, atol=1e-6, rtol=0)


def test_autocast_leaves_the_canvas_alone(pyramid, schedule, features):
    tokens = random_tokens(schedule)
    with torch.autocast("cpu", torch.bfloat16):
        canvas, encoded = pyramid.canvas(tokens), pyramid.encode(features)
    assert torch.equal(canvas, pyramid.canvas(tokens))
    assert same(encoded, pyramid.encode(features))


def test_encoding_leaves_the_features_alone(pyramid, features):
    before = features.clone()
    pyramid.encode(features)
    assert torch.equal(features, before)


def test_the_gradient_goes_straight_through(schedule, features):
    features.requires_grad_()
    canvas = make_tokenizer(schedule).pyramid.quantize(features).canvas
    (gradient,) = torch.autograd.grad((canvas * 3).sum(), features)
    assert torch.equal(gradient, torch.full_like(gradient, 3))


def test_with_scale_dropout_the_canvas_holds_the_first_scales_of_each_image(schedule, features):
    """Image i gets depths[i] scales, no more and no fewer. The loss sees all scales."""
    pyramid = make_tokenizer(schedule).pyramid
    canvases = [step.canvas for step in pyramid.accumulate(pyramid.encode(features))]
    whole = pyramid.quantize(features)
    for first in range(1, schedule.num_scales + 1):
        depths = torch.tensor([first, schedule.num_scales])
        result = pyramid.quantize(features, depths=depths)
        expected = torch.stack([canvases[first - 1][0], canvases[-1][1]])
        torch.testing.assert_close(result.canvas, expected, atol=1e-5, rtol=0)
        assert torch.equal(result.loss, whole.loss)


def test_the_loss_weighs_commitment_by_beta(schedule, features):
    pyramid = make_tokenizer(schedule).pyramid
    tokens = pyramid.encode(features)
    gaps = torch.stack([F.mse_loss(step.canvas, features) for step in pyramid.accumulate(tokens)])
    for beta in (0, 0.25, 1):
        torch.testing.assert_close(pyramid.quantize(features, beta).loss, (1 + beta) * gaps.mean())


@pytest.mark.parametrize(
    ("name", "shared_by_four"),
    [
        ("256", [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]),
        ("512", [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]),
        ("1024", [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]),
    ],
)
def test_phi_of_the_official_schedules(name, shared_by_four):
    schedule = ns.ScaleSchedule.named(name)
    assert assign_phi(schedule, 4) == shared_by_four
    assert assign_phi(schedule, 1) == [0] * schedule.num_scales
    assert assign_phi(schedule, 0) == [0] * schedule.num_scales
    assert assign_phi(schedule, schedule.num_scales) == list(range(schedule.num_scales))


@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_the_only_scale_takes_the_finest_phi(count):
    assert assign_phi(ns.ScaleSchedule(((2, 2),)), count) == [count - 1]


@pytest.mark.parametrize(("num_phi", "quant_resi", "count"), [(0, 0.5, 4), (1, 0.5, 1), (4, 0.5, 4), (4, 0.0, 0)])
def test_number_of_phi(num_phi, quant_resi, count):
    tokenizer = make_tokenizer(ns.ScaleSchedule.square((1, 2, 3, 4)), num_phi=num_phi, quant_resi=quant_resi)
    assert len(tokenizer.pyramid.phi) == count


def test_looks_are_what_codes_were_looked_up_for(pyramid, features):
    result = pyramid.quantize(features)
    canvases = [pyramid.empty_canvas(2), *(step.canvas for step in pyramid.accumulate(result.tokens))]
    pairs = zip(canvases, pyramid.schedule.visits, strict=False)
    expected = [pyramid.residual(features - canvas, visit) for canvas, visit in pairs]
    torch.testing.assert_close(result.looks, torch.cat(expected, dim=1).flatten(0, 1))
