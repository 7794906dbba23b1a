"""The quantizer of bits in training."""

from __future__ import annotations

import json
import math
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_infinity import FOLDER, golden, read
from tiny import random_images, refused
from tiny_infinity import make_tokenizer

import nextscale as ns
from nextscale.tokenizer.bit_quantization import BitQuantization, bit_entropies, quantize_bits

RUNS = json.loads((FOLDER / "tokenizer_training.json").read_text())["runs"]


def probe(run: int, shape: torch.Size) -> torch.Tensor:
    rng = np.random.RandomState(zlib.crc32(f"tokenizer/probe/{run}".encode()))
    return torch.from_numpy(rng.standard_normal(tuple(shape))).float()


@pytest.mark.parametrize("i", range(len(RUNS)))
def test_the_references_training_forward(i):
    """Losses, canvas and the gradient at the features, with dropped scales and both weights of the entropies."""
    run, arrays = RUNS[i], read("tokenizer_training")
    features = golden(run["case"]).arrays["encoder_feature"].clone().requires_grad_()
    dropped = [*run["dropped"][:-1], False]  # the last one is always kept
    kept = ns.ScaleSchedule(tuple(size for size, drop in zip(run["schedule"], dropped, strict=True) if not drop))
    how = BitQuantization(kept, entropy=1e-3 * run["zeta"], diversity=run["gamma"])
    result = quantize_bits(features, how)
    lfq = 4 * result.loss
    assert lfq.item() == pytest.approx(run["lfq_loss = 4 * mean"], rel=1e-6, abs=1e-7)
    torch.testing.assert_close(result.canvas.detach(), arrays[f"run{i}_canvas"], atol=1e-6, rtol=1e-6)
    (lfq + (result.canvas * probe(i, features.shape)).mean()).backward()
    torch.testing.assert_close(features.grad, arrays[f"run{i}_feature_grad"], atol=1e-8, rtol=1e-4)
    of_scales = torch.tensor(run["per_quantised_scale [per-sample entropy, batch entropy, commitment, weighted sum]"])
    assert len(result.tokens) == len(of_scales) == kept.num_scales
    names = ("entropy", "diversity", "commitment")
    found = torch.stack([result.figures[name] for name in names]).detach()
    assert found.tolist() == pytest.approx(of_scales.mean(dim=0)[:3].tolist(), rel=1e-5)
    assert result.loss.item() == pytest.approx(of_scales.mean(dim=0)[3].item(), rel=1e-5, abs=1e-7)
    assert 0.25 * 4 * result.figures["quantization_error"].item() == pytest.approx(
        run["all_commitment_loss (logged only)"], rel=1e-5
    )


@pytest.mark.parametrize("patchify", [False, True])
def test_training_makes_the_bits_of_encoding(patchify):
    """And its canvas, for which nothing is left out of the forward pass."""
    tokenizer = make_tokenizer(patchify)
    images = random_images(tokenizer)
    result = tokenizer(images)
    with torch.no_grad():
        canvas = tokenizer.pyramid.canvas(tokenizer.encode(images))
        torch.testing.assert_close(result.images, tokenizer.decoder(canvas), atol=1e-4, rtol=1e-4)
    for k, (trained, encoded) in enumerate(zip(result.tokens, tokenizer.encode(images), strict=True)):
        h, w = tokenizer.schedule.sizes[k]
        grid = encoded.float().mT.unflatten(2, (h, w))
        flat = F.pixel_shuffle(grid, 2) if patchify else grid
        assert torch.equal(trained, flat.flatten(2).mT.bool())


def test_images_are_decoded_from_their_first_scales():
    tokenizer = make_tokenizer()
    images, depths = random_images(tokenizer, 3), torch.tensor([1, 3, 2])
    result = tokenizer(images, depths=depths)
    tokens = tokenizer.encode(images)
    for i, depth in enumerate(depths.tolist()):
        canvas = tokenizer.pyramid.canvas([scale[i : i + 1] for scale in tokens[:depth]])
        torch.testing.assert_close(result.images[i : i + 1], tokenizer.decoder(canvas), atol=1e-4, rtol=1e-4)


def test_the_mean_bit_is_that_of_a_group_of_images():
    unit = F.normalize(torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    whole, halves = bit_entropies(unit), [bit_entropies(half) for half in unit.split(2)]
    torch.testing.assert_close(bit_entropies(unit, groups=2), torch.stack(halves).mean(dim=0))
    torch.testing.assert_close(whole[0], torch.stack(halves).mean(dim=0)[0])
    assert whole[1] > bit_entropies(unit, groups=4)[1]
    assert whole[1] <= 8 * math.log(2)


def test_images_of_another_size_than_the_last_scale():
    tokenizer = make_tokenizer()
    how = BitQuantization(ns.ScaleSchedule.square((1, 4)))
    assert tokenizer(torch.zeros(1, 3, 16, 16), bits=how).images.shape == (1, 3, 16, 16)
    with refused("16, 16", "12, 12"):
        tokenizer(torch.zeros(1, 3, 12, 12), bits=how)
