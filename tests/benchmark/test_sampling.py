"""Reports of the benchmarks of sampling, decoding and loading."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_infinity import make_infinity
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.analysis.flops import count_flops
from nextscale.benchmark.machine import Peak, measure_peak, peak_memory
from nextscale.benchmark.sampling import bench_decoding, bench_loading, bench_sampling, least_seconds
from nextscale.benchmark.stages import timed_stages
from nextscale.sampling.settings import SamplingSettings

SQUARE = SCHEDULES["square"]
CPU = torch.device("cpu")
SETTINGS = SamplingSettings(top_k=10, top_p=0.9)


def make_pipeline() -> ns.Pipeline:
    return ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu")


@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_sampling(cfg):
    pipeline = make_pipeline()
    report = bench_sampling(pipeline, "tiny", batch=3, repeats=2, settings=SETTINGS.changed(cfg=cfg), seed=0)
    work = count_flops(pipeline.tokenizer.config, pipeline.model.config)
    sequences = 6 if cfg else 3
    assert report.gflop["transformer"] == pytest.approx(sequences * (work.transformer + work.condition))
    assert report.gflop["decoder"] == pytest.approx(3 * work.decoder)
    assert len(report.seconds) == 2 and report.ratio is None
    assert set(report.stages) == {"transformer", "canvas", "decoder", "sampling"}
    assert all(seconds > 0 for seconds in report.stages.values())
    least = least_seconds(report.gflop, Peak(**report.peak))
    assert report.share_of_peak == pytest.approx(least / report.median)
    assert json.loads(json.dumps(report.record()))["per_second"] == pytest.approx(3 / report.median)
    assert "images per second" in report.table() and "share of the peak" in report.table()


@pytest.mark.parametrize(("cfg", "sequences"), [(3.0, 4), pytest.param(1.0, 2, marks=pytest.mark.long)])
def test_a_text_to_image_model(cfg, sequences):
    pipeline = ns.Pipeline(make_bits_tokenizer(), make_infinity(), device="cpu")
    schedule = ns.ScaleSchedule(((1, 1), (2, 1)), 1.0)
    settings = pipeline.settings.changed(cfg=cfg)
    report = bench_sampling(pipeline, "tiny", 2, 1, settings, seed=0, schedule=schedule)
    work = count_flops(pipeline.tokenizer.config, pipeline.model.config, schedule)
    assert report.gflop["transformer"] == pytest.approx(sequences * work.sampling)
    assert report.gflop["decoder"] == pytest.approx(2 * work.decoder)
    assert report.share_of_peak and 0 < report.estimated_memory < report.peak_memory * 10
    assert "estimated" in report.table()
    assert bench_decoding(pipeline, "tiny", batch=1, repeats=1, seed=0).median > 0
    assert bench_loading(lambda: pipeline, "tiny", repeats=1).median > 0


def test_decoding_and_loading():
    decoding = bench_decoding(make_pipeline(), "tiny", batch=2, repeats=1, seed=0, against="echo 1000")
    assert set(decoding.gflop) == {"decoder"} and decoding.theirs == [1000]
    assert decoding.ratio == pytest.approx(1000 / decoding.median)
    assert "times as fast" in decoding.table()
    loading = bench_loading(make_pipeline, "tiny", repeats=1)
    assert set(loading.stages) == {"read", "make ready", "first image"}
    assert loading.share_of_peak is None


def test_stages_are_timed_only_inside():
    tokenizer, model = make_pipeline().ready()
    with timed_stages(tokenizer, model, CPU) as seconds:
        ns.sample(tokenizer, model, [0], seed=0)
    before = dict(seconds)
    assert min(before.values()) > 0
    ns.sample(tokenizer, model, [0], seed=0)
    assert seconds == before and "forward_scale" not in vars(model)


def test_the_least_time_is_the_sum_of_both_kinds_of_work():
    peak = Peak(product=10, convolution=20)
    assert least_seconds({"transformer": 30, "decoder": 40}, peak) == 3 + 2


def test_the_machine():
    peak = measure_peak(8, 32, 32, (8, 8), torch.float32, CPU)
    assert peak.product > 0 and peak.convolution > 0
    assert 2**24 < peak_memory(CPU) < 2**40


def test_numbers_out_of_range():
    with refused("batch", 0):
        bench_decoding(make_pipeline(), "tiny", batch=0, repeats=1, seed=0)
    with refused("repeats", 0):
        bench_decoding(make_pipeline(), "tiny", batch=1, repeats=0, seed=0)
