"""The results of Infinity's reference in all golden cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from golden_infinity import NAMES, Golden, golden
from torch import Tensor

import nextscale as ns
from nextscale.official.infinity import to_official
from nextscale.sampling.sampler import ScaleStep
from nextscale.scales.schedule import Visit
from nextscale.tokenizer.bsq import SignBits
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.rope import rotations
from nextscale.transformer.token_loss import token_losses

FLOAT32 = 1e-4
LOGITS = 2e-5
LOSS = 1e-6
HALF = {"atol": 1e-4, "rtol": 1e-3}
"""For arrays that are stored in half precision, whose own rounding errors are up to 5e-4 of a value."""


@pytest.fixture(params=NAMES)
def case(request) -> Golden:
    return golden(request.param)


@pytest.fixture
def arrays(case) -> dict[str, Tensor]:
    return case.arrays


@pytest.fixture
def tokenizer(case) -> Iterator[ns.ImageTokenizer]:
    with torch.no_grad():
        yield case.models[0]


@pytest.fixture
def model(case) -> Iterator[Infinity]:
    with torch.no_grad():
        yield case.models[1]


def close(ours: Tensor, golden: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(ours.float(), golden.float(), atol=atol, rtol=rtol)


def same_bits(ours: list[Tensor], golden: list[Tensor]) -> None:
    assert len(ours) == len(golden)
    for k, (a, b) in enumerate(zip(ours, golden, strict=True)):
        assert a.dtype == b.dtype == torch.bool
        assert torch.equal(a, b), f"scale {k}: {(a != b).sum()} of {a.numel()} bits differ"


# ---- tokenizer ---------------------------------------------------------------------------------------------------


def test_schedule(case):
    assert [list(size) for size in case.schedule.sizes] == case.info["schedule"]


def test_features_and_bits_of_the_images(case, tokenizer):
    images = case.images["image"].float() / 255 * 2 - 1
    close(tokenizer.encode_features(images, case.schedule), case.arrays["encoder_feature"], FLOAT32)
    same_bits(tokenizer.encode(images, case.schedule), case.tokens)


def test_canvas_and_reconstruction(case, tokenizer, arrays):
    canvases = [step.canvas for step in tokenizer.pyramid.accumulate(case.tokens, case.schedule)]
    close(canvases[0], arrays["canvas_first"], FLOAT32)
    close(canvases[-1], arrays["canvas_last"], FLOAT32)
    first = [bits[:1] for bits in case.tokens]
    close(tokenizer.decode(first, case.schedule), case.images["reconstruction"], atol=1e-3)


def test_input_and_labels_of_the_transformer(case, tokenizer, arrays):
    close(tokenizer.teacher_forcing_input(case.tokens, case.schedule), arrays["transformer_input"], FLOAT32)
    assert torch.equal(torch.cat(case.tokens, dim=1), arrays["labels"].bool())


def test_input_and_labels_with_self_correction(case, tokenizer, arrays):
    """Flipped bits go to the canvas. The labels are the bits that repair what is wrong with it."""
    pyramid, features, labels, canvases = tokenizer.pyramid, arrays["encoder_feature"], [], []
    flips = [case.to_tokens(arrays[f"bsc_mask_{k}"]) for k in range(case.info["flipped_scales"])]

    def choose(visit: Visit, canvas: Tensor) -> Tensor:
        bits = pyramid.codebook.nearest(pyramid.residual(features - canvas, visit))
        labels.append(bits)
        return pyramid.codebook.codes(bits ^ flips[visit.index] if visit.index < len(flips) else bits)

    canvas = pyramid.empty_canvas(len(features), schedule=case.schedule)
    for step in pyramid.walk(choose, canvas, case.schedule):
        canvases.append(step.canvas)
    visits = case.schedule.visits[1:]
    inputs = torch.cat([pyramid.look(canvas, visit) for canvas, visit in zip(canvases, visits, strict=False)], dim=1)
    assert torch.equal(torch.cat(labels, dim=1), arrays["bsc_labels"].bool())
    assert not torch.equal(arrays["bsc_labels"], arrays["labels"])
    close(inputs, arrays["bsc_input"], FLOAT32)


# ---- transformer -------------------------------------------------------------------------------------------------


def test_what_depends_on_the_text(case, model, arrays):
    condition = model.condition(case.text)
    close(condition.embedding, arrays["pooled_text"], FLOAT32)
    for vectors, offset in zip(condition.blocks, model.adaln_offset, strict=True):
        close(vectors - offset.squeeze(1), arrays["adaptive"], FLOAT32)
    up = model.text_up(model.text_norm(case.text.features))
    close(model.text_down(F.gelu(up, approximate="tanh")), arrays["text_memory"], FLOAT32)


@pytest.mark.parametrize(
    ("name", "array", "mode"),
    [*((name, "rope", 2) for name in NAMES), ("wide", "rope_mode0", 0), ("wide", "rope_mode1", 1)],
)
def test_rotary_positions(name, array, mode):
    config, expected = golden(name).models[1].config, golden(name).arrays[array]
    found = rotations(golden(name).schedule.visits, config.width // config.heads, mode, torch.device("cpu"))
    close(found[:, : expected.shape[1]], expected, atol=1e-6)


def test_logits(case, model, arrays):
    logits = model(case.text, arrays["transformer_input"], case.schedule)
    close(logits.flatten(2), arrays["logits"], LOGITS)


def test_logits_without_text(case, model, arrays):
    text = model.conditioner.drop(case.text, torch.tensor([True, False]))
    logits = model(text, arrays["transformer_input"], case.schedule)
    close(logits[:1].flatten(2), arrays["logits_first_text_dropped"], **HALF)
    close(logits[1].flatten(1), arrays["logits"][1], LOGITS)


# ---- training ----------------------------------------------------------------------------------------------------


def token_weights(schedule: ns.ScaleSchedule, kind: str) -> Tensor:
    """Return the weight of each token in the loss, (L,), sum 1."""
    if kind == "uniform":
        return torch.full((schedule.num_tokens,), 1 / schedule.num_tokens)
    counts = torch.tensor(schedule.tokens_per_scale)[torch.tensor(schedule.level_ids)]
    weights = (counts[-1] / counts).sqrt()
    return weights / weights.sum()


def test_losses(case, arrays):
    logits = arrays["logits"].unflatten(-1, (-1, 2))
    losses = token_losses(logits, arrays["labels"].long())
    for kind in ("uniform", "reweighted"):
        weights = token_weights(case.schedule, kind)
        close((losses.loss * weights).sum(dim=1).mean(), arrays[f"loss_{kind}"], LOSS)
    per_scale = torch.stack([losses.loss[:, part].mean() for part in case.schedule.slices])
    close(per_scale, arrays["loss_per_scale"], LOSS)
    correct = losses.correct.float()
    assert correct.mean().item() == pytest.approx(case.info["bit_accuracy"], abs=1e-6)
    assert correct.amin(dim=-1).mean().item() == pytest.approx(case.info["token_accuracy"], abs=1e-6)


def test_gradient_norms(case):
    """The features for "no prompt" have a gradient of zero when no text is dropped, not none."""
    tokenizer, model = case.models
    text = model.conditioner.drop(case.text, torch.zeros(len(case.text), dtype=torch.bool))
    logits = model(text, case.arrays["transformer_input"], case.schedule)
    losses = token_losses(logits, case.arrays["labels"].long()).loss
    for kind in ("uniform", "reweighted"):
        model.zero_grad()
        (losses * token_weights(case.schedule, kind)).sum(dim=1).mean().backward(retain_graph=kind == "uniform")
        assert model.unconditional_text.grad is not None and not model.unconditional_text.grad.any()
        _, official = to_official(tokenizer, gradients_of(model))
        norms = case.info[f"grad_norms_{kind}"]
        assert set(norms) == {name for name in official if not name.endswith("zero_k_bias")}
        for name, norm in norms.items():
            close(official[name].norm(), torch.tensor(norm), atol=1e-7, rtol=1e-4)
        total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        assert total.item() == pytest.approx(case.info[f"grad_norm_total_{kind}"], rel=1e-5)
    model.zero_grad()


def gradients_of(model: Infinity) -> Infinity:
    """A model whose weights are another one's gradients, so that they can be called by their official names."""
    with torch.device("meta"):
        copy = Infinity(model.config)
    copy.load_state_dict({name: p.grad for name, p in model.named_parameters()}, assign=True)
    return copy


# ---- sampling ----------------------------------------------------------------------------------------------------


def samples():
    return [
        pytest.param(name, i, id=f"{name}: {sample['what']}")
        for name in NAMES
        for i, sample in enumerate(Golden(name).info["samples"])
    ]


def sampling_arguments(case: Golden, sample: dict) -> dict:
    """Our arguments for an entry of ``samples``."""
    arguments = {key: sample[key] for key in ("seed", "cfg", "top_k", "top_p")} | {"temperature": sample["tau"]}
    if sample["layers"] != [0]:
        arguments["guidance_blocks"] = sample["layers"]
    if "negative" in sample:
        arguments["negative"] = case.negative.select(range(sample["B"]))
    if "gt_leak" in sample:
        arguments["keep_scales"] = [bits[: sample["B"]] for bits in case.tokens[: sample["gt_leak"]]]
    if "trunk_scale" in sample:
        arguments["stop_after"] = sample["trunk_scale"]
    return arguments


@pytest.mark.parametrize(("name", "index"), samples())
def test_samples(name, index):
    case = golden(name)
    sample, found = case.info["samples"][index], case.samples
    text = case.text.select(range(sample["B"]))
    steps = list(ns.sample_scales(*case.models, text, schedule=case.schedule, **sampling_arguments(case, sample)))
    kept = sample.get("gt_leak", 0)
    bits = [case.tokens[k][: sample["B"]] if k < kept else step.tokens for k, step in enumerate(steps)]
    same_bits(bits, [case.to_tokens(found[f"sample{index}_bits_{k}"]) for k in range(len(steps))])
    assert len(steps) == sample.get("trunk_scale", case.schedule.num_scales)
    assert f"sample{index}_bits_{len(steps)}" not in found
    last = steps[-1]
    close(last.canvas, found[f"sample{index}_canvas"], **HALF)
    tau = sample["tau"][len(steps) - 1] if isinstance(sample["tau"], list) else sample["tau"]
    close(last.logits[:1].flatten(2) / tau, found[f"sample{index}_logits_last"], **HALF)
    compare_images(last, found[f"sample{index}_image_mean"], case.images.get(f"sample{index}_image"))


def compare_images(step: ScaleStep, mean: Tensor, first: Tensor | None) -> None:
    """Compare 8-bit images with the reference's, which are BGR: their means, and the first one if it is stored.

    Decoding takes most of the time. Where no image is stored only the first is decoded.
    """
    if first is None:
        step, mean = replace(step, canvas=step.canvas[:1]), mean[:1]
    images = step.image().mul(255).to(torch.uint8).movedim(1, -1).flip(-1)
    close(images.float().mean(dim=(1, 2)), mean, atol=5e-3)
    if first is not None:
        difference = (images[:1].int() - first.int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 0.005


def test_a_code_is_a_unit_vector(case, tokenizer, arrays):
    codebook = tokenizer.pyramid.codebook
    assert isinstance(codebook, SignBits)
    codes = codebook.codes(arrays["labels"].bool())
    channels = tokenizer.config.code_dim
    patches = codes.unflatten(-1, (channels, -1))
    close(patches.norm(dim=-2), torch.ones(()).expand(*patches.shape[:2], patches.shape[-1]), atol=1e-6)
