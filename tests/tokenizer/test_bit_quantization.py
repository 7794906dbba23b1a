"""The quantizer of bits in training."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from golden_infinity import FOLDER, golden, read

import nextscale as ns
from nextscale.tokenizer.bit_quantization import BitQuantization, quantize_bits

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
    assert found[:2].tolist() == pytest.approx(of_scales.mean(dim=0)[:2].tolist(), rel=1e-5)
    assert 0.25 * 4 * result.figures["quantization_error"].item() == pytest.approx(
        run["all_commitment_loss (logged only)"], rel=1e-5
    )
