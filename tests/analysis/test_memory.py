"""The estimate of memory, and calls that are refused because of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var, refused
from tiny_infinity import WordEncoder, make_infinity, make_text
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import ready_transformer
from nextscale.analysis import memory, memory_guard
from nextscale.analysis.memory import estimate_memory, transformer_bytes
from nextscale.families.infinity import PUBLISHED
from nextscale.scales.schedule import ScaleSchedule
from nextscale.transformer.infinity_config import InfinityConfig

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = Precision(), Precision(torch.bfloat16)
LARGE = ScaleSchedule.infinity("0.25M")


def estimate(precision: Precision = FLOAT32, **options) -> memory.MemoryEstimate:
    published = PUBLISHED["2b"]
    return estimate_memory(published.tokenizer, published.model, precision, CPU, **options)


def test_weights_of_the_2b_model():
    assert estimate().weights == 4 * 2_204_564_032
    assert 0.5 < estimate(BFLOAT16).weights / estimate().weights < 0.51  # norms, biases and text stay in float32


@pytest.mark.parametrize(("precision", "dtype"), [(FLOAT32, torch.float32), (BFLOAT16, torch.bfloat16)])
def test_weights_are_those_of_a_ready_model(precision, dtype):
    """Counted over all tensors of the model, and those of packed layers, which are no parameters."""
    models: list[Any] = [make_infinity(), make_var(SCHEDULES["square"])]
    for model in models:
        ready = ready_transformer(model, dtype)
        layers = [m for m in ready.modules() if hasattr(m, "packed")]
        packed = sum(m.weight.numel() * m.weight.element_size() for m in layers)
        biases = sum(m.bias.numel() * 4 for m in layers if m.bias is not None)
        rest = sum(t.numel() * t.element_size() for t in ready.state_dict().values())
        assert transformer_bytes(model.config, precision) == pytest.approx(packed + biases + rest, rel=0.05)


def test_the_cache_is_the_one_that_sampling_makes():
    model = make_infinity()
    cache = model.make_cache(model.schedule, 6)
    found = estimate_memory(make_bits_tokenizer().config, model.config, FLOAT32, CPU, num_images=3)
    assert found.cache == cache.keys.nbytes + cache.values.nbytes
    half = estimate_memory(make_bits_tokenizer().config, model.config, BFLOAT16, CPU, num_images=3, guided=False)
    assert half.cache == found.cache // 4


def test_it_grows_with_images_and_pixels():
    small, large = estimate(schedule=ScaleSchedule.infinity("0.06M")), estimate(schedule=LARGE)
    four = estimate(schedule=LARGE, num_images=4)
    assert small.weights == large.weights and small.peak < large.peak < four.peak
    assert four.cache == 4 * large.cache
    assert four.peak == four.models + max(four.cache + four.activations, four.decoding)
    assert estimate(schedule=LARGE, text_encoder=10**9).peak == large.peak + 10**9


@pytest.fixture
def available(monkeypatch):
    """Pretend that so many bytes are available."""

    def pretend(number: int | None) -> None:
        monkeypatch.setattr(memory_guard, "available_memory", lambda device: number)

    return pretend


def make_pipeline() -> ns.Pipeline:
    schedule = ScaleSchedule.infinity("0.06M")
    return ns.Pipeline(make_bits_tokenizer(schedule=schedule), make_infinity(schedule=schedule), device="cpu")


def test_a_call_is_refused_before_anything_is_prepared(available, monkeypatch):
    pipeline = make_pipeline()
    monkeypatch.setattr(pipeline, "ready", lambda: pytest.fail("prepared"))
    available(10**8)
    with refused("1M pixels with 4 images need about", " GB, but 0.1 GB are available", "--budget or fewer images"):
        pipeline.scales(make_text(3), num_images=4, budget="1M")
    with refused("0.06M pixels with 1 image need about", "use a smaller model"):
        pipeline.scales(make_text(3))
    with refused("0.25M pixels with 2 images"):
        pipeline.scales(make_text(3, 4), schedule=LARGE)


def test_a_text_encoder_that_is_not_loaded_yet_counts(available):
    class Encoder(WordEncoder):
        memory_to_load = 10**12

    pipeline = make_pipeline()
    encoder: Any = Encoder()
    pipeline.set_text_encoder(encoder)
    available(10**11)
    with refused("0.06M pixels with 1 image need about 1000.", "100.0 GB are available"):
        pipeline.scales("a fox")
    assert pipeline.scales(make_text(3), stop_after=1).prompts == ()  # needs no encoder


def test_enough_memory_and_unknown_memory(available):
    pipeline = make_pipeline()
    needed = estimate_memory(pipeline.tokenizer.config, pipeline.model.config, FLOAT32, CPU).peak
    for number in (needed, None):
        available(number)
        assert len(pipeline.scales(make_text(3), stop_after=1).result().images) == 1


def test_memory_that_an_earlier_call_used_is_not_asked_for_again(available):
    """The allocator may have kept it. A larger call is refused."""
    pipeline = make_pipeline()
    available(10**10)
    pipeline.scales(make_text(3), stop_after=1).result()
    available(0)
    pipeline.scales(make_text(3), stop_after=1).result()
    with refused("0.06M pixels with 10000 images", "fewer images"):
        pipeline.scales(make_text(3), num_images=10_000)


def test_models_of_classes_are_refused_too(available):
    square = SCHEDULES["square"]
    pipeline = ns.Pipeline(make_tokenizer(square), make_var(square), device="cpu")
    available(1000)
    with refused("images of", "tokens with 3 images need about", "fewer images"):
        pipeline([0, 1, 2])


def test_what_is_refused_for_other_reasons_stays_so(available):
    available(10**12)
    with refused("num_images", 0):
        make_pipeline().scales(make_text(3), num_images=0)


def test_models_that_are_offloaded_do_not_add_up():
    plain, offloaded = (estimate(schedule=LARGE, text_encoder=10**9, offload=offload) for offload in (False, True))
    assert offloaded.peak == plain.weights + plain.cache + plain.activations
    assert offloaded.models == 0 and plain.peak > offloaded.peak
    assert estimate(text_encoder=10**12, offload=True).peak == 10**12
    assert estimate(text_encoder=10**9, keeps_encoder=False).peak == estimate().peak


def test_tiles_bound_the_memory_of_decoding():
    large = ScaleSchedule.infinity("1M")
    whole, tiles = (estimate(schedule=large, tiles=tiles).decoding for tiles in (False, True))
    assert tiles < 0.6 * whole
    small = ScaleSchedule.infinity("0.06M")
    assert estimate(schedule=small, tiles=True) == estimate(schedule=small)


def test_a_call_that_fits_only_without_the_other_models(available):
    schedule = ScaleSchedule.infinity("0.06M")
    parts = make_bits_tokenizer(schedule=schedule), make_infinity(schedule=schedule)
    configs = parts[0].config, parts[1].config
    needed = [estimate_memory(*configs, FLOAT32, CPU, offload=offload).peak for offload in (False, True)]
    available(needed[1])
    assert needed[1] < needed[0]
    with refused("need about"):
        ns.Pipeline(*parts, device="cpu").scales(make_text(3))
    assert len(ns.Pipeline(*parts, device="cpu", offload=True).scales(make_text(3)).result().images) == 1


def test_levels_of_a_configuration():
    assert transformer_bytes(InfinityConfig.named("layer12"), FLOAT32) == 4 * 125_185_696
