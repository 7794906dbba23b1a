"""Reports of the training benchmark."""

from __future__ import annotations

import pytest
from tiny import SCHEDULES, make_tokenizer, make_var

import nextscale as ns
from nextscale.analysis.flops import training_flops
from nextscale.benchmark.training import bench_training


def test_training():
    model = ns.VAR(make_var(SCHEDULES["square"]).config)
    before = model.head.weight.clone()
    pipeline = ns.Pipeline(make_tokenizer(SCHEDULES["square"]), model, device="cpu")
    report = bench_training(pipeline, "tiny", batch=2, repeats=2, precision="float32", seed=0)
    assert report.gflop["training"] == pytest.approx(2 * training_flops(model.config))
    assert len(report.seconds) == 2 and report.share_of_peak is not None and report.share_of_peak > 0
    assert not before.equal(model.head.weight)
