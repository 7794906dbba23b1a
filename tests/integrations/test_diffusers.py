"""A nextscale model as a diffusers pipeline."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import CLASSES, SCHEDULES, make_tokenizer, make_var, refused

import nextscale as ns

pytest.importorskip("diffusers")

from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput

from nextscale.integrations.diffusers import NextScalePipeline, guidance_to_cfg, seeds_from
from nextscale.sampling.guidance import WeightedGuidance
from nextscale.transformer.var import guidance_ramp

NAMES = ("ankle boot", "dress", "hat", "shirt", "7")
SQUARE = SCHEDULES["square"]
SCALES = SQUARE.num_scales


@pytest.fixture
def pipe() -> NextScalePipeline:
    adapter = NextScalePipeline(make_tokenizer(SQUARE), make_var(SQUARE), NAMES)
    adapter.set_progress_bar_config(disable=True)
    return adapter


@pytest.fixture
def ours() -> ns.Pipeline:
    return ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), NAMES, device="cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(images) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_it_is_a_diffusers_pipeline(pipe):
    assert issubclass(NextScalePipeline, DiffusionPipeline)
    assert pipe.components == {"tokenizer": pipe.tokenizer, "transformer": pipe.transformer}
    again = NextScalePipeline.from_pipe(pipe)
    assert isinstance(again, NextScalePipeline)
    again.set_progress_bar_config(disable=True)
    assert again.transformer is pipe.transformer and again.labels == pipe.labels
    assert pixels(again([1], generator=generator()).images) == pixels(pipe([1], generator=generator()).images)


def test_it_draws_what_our_pipeline_draws(pipe, ours):
    drawn = pipe(["dress", 3], guidance_scale=3.0, top_k=9, top_p=0.8, generator=generator(5)).images
    seeds = seeds_from(generator(5), 2)
    assert pixels(drawn) == pixels(ours(["dress", 3], cfg=2.0, top_k=9, top_p=0.8, seed=seeds).images)
    assert pixels(drawn) != pixels(ours(["dress", 3], cfg=3.0, top_k=9, top_p=0.8, seed=seeds).images)


def test_its_defaults_are_our_pipeline_s(pipe, ours):
    assert pixels(pipe([2], generator=generator()).images) == pixels(ours([2], seed=seeds_from(generator(), 1)).images)


def test_the_number_of_steps_is_the_model_s(pipe):
    scales = pipe.tokenizer.schedule.num_scales
    expected = pixels(pipe([2], generator=generator(), num_inference_steps=scales).images)
    with pytest.warns(UserWarning, match=f"num_inference_steps=25 has no effect: an image takes {scales} scales"):
        assert pixels(pipe([2], generator=generator(), num_inference_steps=25).images) == expected


@pytest.mark.parametrize("scale", [1.5, 3.0, 7.0])
def test_guidance_is_diffusers_at_the_last_scale(scale):
    conditional, unconditional = torch.randn(2, 3, 4, 5, generator=generator())
    ramp = WeightedGuidance(guidance_ramp(guidance_to_cfg(scale), SQUARE))
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(ramp.combine(conditional, unconditional, SQUARE.visits[-1]), expected)


@pytest.mark.parametrize("scale", [1, 1.0, 0.0, -3])
def test_at_one_and_below_there_is_no_guidance(pipe, ours, scale):
    drawn = pipe([0, 1], guidance_scale=scale, generator=generator()).images
    assert pixels(drawn) == pixels(ours([0, 1], cfg=0, seed=seeds_from(generator(), 2)).images)


def test_images_do_not_depend_on_their_batch(pipe):
    together = pipe([0, 1, 2], generator=[generator(s) for s in (4, 5, 6)]).images
    assert pixels(together[1:2]) == pixels(pipe([1], generator=generator(5)).images)


def test_a_generator_moves_on(pipe):
    one = generator()
    first, second = pipe([1], generator=one).images, pipe([1], generator=one).images
    assert pixels(first) != pixels(second)
    assert pixels(first + second) == pixels(pipe([1, 1], generator=generator()).images)


def test_without_a_generator_the_global_one_counts(pipe):
    torch.manual_seed(3)
    assert pixels(pipe([1]).images) == pixels(pipe([1], generator=generator(3)).images)


def test_several_images_of_each_label(pipe):
    twice = pipe(["hat", 0], num_images_per_prompt=2, generator=generator()).images
    assert pixels(twice) == pixels(pipe([2, 2, 0, 0], generator=generator()).images)


@pytest.mark.parametrize("labels", [2, "hat", "2", ["hat"], (2,), torch.tensor([2]), torch.tensor(2)], ids=repr)
def test_ways_to_say_a_class(pipe, labels):
    assert pixels(pipe(labels, generator=generator()).images) == pixels(pipe([2], generator=generator()).images)


def test_label_ids(pipe):
    assert pipe.get_label_ids(["hat", "ankle boot"]) == [2, 0]
    assert pipe.get_label_ids("dress") == [1]
    assert pipe.labels == {name: i for i, name in enumerate(NAMES)}
    with refused("'giraffe'", "0..4"):
        pipe.get_label_ids(["hat", "giraffe"])


def test_output_types(pipe):
    h, w = pipe.tokenizer.config.image_size
    pil = pipe([0, 1], generator=generator()).images
    array = pipe([0, 1], generator=generator(), output_type="np").images
    tensor = pipe([0, 1], generator=generator(), output_type="pt").images
    assert isinstance(array, np.ndarray) and array.shape == (2, h, w, 3) and array.dtype == np.float32
    assert tensor.shape == (2, 3, h, w) and 0 <= tensor.min() < tensor.max() <= 1
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    for image, expected in zip(pil, array, strict=True):
        assert np.abs(np.asarray(image) - 255 * expected).max() < 0.51


def test_what_it_returns(pipe):
    named = pipe([0], generator=generator())
    plain = pipe([0], generator=generator(), return_dict=False)
    assert isinstance(named, ImagePipelineOutput)
    assert isinstance(plain, tuple) and len(plain) == 1
    assert pixels(plain[0]) == pixels(named.images)


def test_a_callback_after_each_scale(pipe, ours):
    seen = []

    def look(pipeline, index, size, tensors):
        assert pipeline is pipe
        seen.append((index, size, tensors))

    names = ["tokens", "logits", "canvas", "images"]
    last = pipe(
        [3, 4], generator=generator(), output_type="pt", callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=names,
    )  # fmt: skip
    steps = list(ours.scales([3, 4], seed=seeds_from(generator(), 2)))
    assert [(index, size) for index, size, _ in seen] == [(step.index, step.size) for step in steps]
    for (_, _, tensors), step in zip(seen, steps, strict=True):
        assert list(tensors) == names
        assert torch.equal(tensors["tokens"], step.tokens) and torch.equal(tensors["logits"], step.logits)
        assert torch.equal(tensors["canvas"], step.canvas) and torch.equal(tensors["images"], step.image())
    assert torch.equal(seen[-1][2]["images"], last.images)


def test_a_callback_may_stop(pipe):
    early = {}

    def stop(pipeline, index, size, tensors):
        assert not pipeline.interrupt
        early[index] = tensors["images"]
        pipeline._interrupt = index == 1

    options = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["images"], "output_type": "pt"}
    images = pipe([0], generator=generator(), **options).images
    assert pipe.interrupt and list(early) == [0, 1] and torch.equal(images, early[1])
    stopped = pipe([0], generator=generator(), **options | {"output_type": "pil"}).images
    assert pixels(stopped) == pixels(pipe.numpy_to_pil(images.permute(0, 2, 3, 1).numpy()))
    assert not torch.equal(images, pipe([0], generator=generator(), output_type="pt").images)
    assert not pipe.interrupt


def test_the_progress_bar_counts_scales(pipe, capsys):
    pipe([0])
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(desc="scales", ascii=True)
    pipe([0])
    error = capsys.readouterr().err
    assert "scales: 100%" in error and f"{SCALES}/{SCALES}" in error


def test_saved_and_loaded_by_either_it_draws_the_same(pipe, ours, tmp_path):
    pipe.save_pretrained(tmp_path / "adapter")
    ours.save_pretrained(tmp_path / "ours")
    expected = pixels(pipe(["hat"], generator=generator()).images)
    for folder in ("adapter", "ours"):
        loaded = NextScalePipeline.from_pretrained(tmp_path / folder)
        loaded.set_progress_bar_config(disable=True)
        assert pixels(loaded(["hat"], generator=generator()).images) == expected
    loaded = ns.Pipeline.from_pretrained(tmp_path / "adapter", device="cpu")
    assert pixels(loaded(["hat"], seed=seeds_from(generator(), 1)).images) == expected


def test_a_component_may_be_changed(pipe):
    before = pixels(pipe([1], generator=generator()).images)
    pipe.transformer = ns.VAR(pipe.transformer.config)
    assert pixels(pipe([1], generator=generator()).images) != before


def test_precision_is_of_the_products_not_of_the_weights(pipe, ours):
    assert pipe.dtype == torch.float32
    assert pipe.to("cpu", torch.bfloat16) is pipe
    assert pipe.dtype == torch.bfloat16 and pipe.transformer.head.weight.dtype == torch.float32
    half = ns.Pipeline(ours.tokenizer, ours.model, NAMES, device="cpu", dtype="bfloat16")
    drawn = pipe([0, 4], generator=generator()).images
    assert pixels(drawn) == pixels(half([0, 4], seed=seeds_from(generator(), 2)).images)
    assert pixels(drawn) != pixels(pipe.to(torch.float32)([0, 4], generator=generator()).images)
    assert pipe.to(dtype=torch.bfloat16).to("cpu").dtype == torch.bfloat16


def test_classes_without_names_go_by_number():
    pipe = NextScalePipeline(make_tokenizer(SQUARE), make_var(SQUARE))
    assert pipe.labels == {str(i): i for i in range(CLASSES)}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"class_labels": ["giraffe"]}, ["'giraffe'", "0..4"]),
        ({"class_labels": [-1]}, ["label -1", "0..4"]),
        ({"class_labels": []}, ["at least one label"]),
        ({"guidance_scale": float("nan")}, ["guidance_scale", "nan"]),
        ({"guidance_scale": "3"}, ["guidance_scale", "'3'"]),
        ({"guidance_scale": float("inf")}, ["inf"]),
        ({"num_images_per_prompt": 0}, ["num_images_per_prompt", "0"]),
        ({"generator": [torch.Generator()]}, ["each of the 2 images", "got 1"]),
        ({"generator": 3}, ["torch.Generator", "3"]),
        ({"output_type": "jpg"}, ["pil, np, pt", "'jpg'"]),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, ["canvas", "latents"]),
        ({"top_p": 2.0}, ["top-p", "2.0"]),
        ({"top_k": -1}, ["top-k", "-1"]),
    ],
    ids=lambda value: next(iter(value)),  # what stays the same in every process of the tests
)
def test_arguments_out_of_range(pipe, option, words):
    with refused(*words):
        pipe(**({"class_labels": [0, 1]} | option))


def test_models_devices_and_types_that_are_not_there(pipe):
    with refused("'no-such-model'", "starter"):
        NextScalePipeline.from_pretrained("no-such-model")
    with refused("schedule"):
        NextScalePipeline(make_tokenizer(SCHEDULES["rectangular"]), make_var(SQUARE))
    with refused("'toaster'"):
        pipe.to("toaster")
    with refused("'float64'", "bfloat16"):
        pipe.to(torch.float64)
    with refused("float16", "CPU"):
        pipe.to("cpu", torch.float16)
    assert (pipe.device, pipe.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    "method", ["enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload", "push_to_hub"]
)
def test_what_rests_on_diffusers_own_models_is_refused(pipe, method):
    with refused("use"):
        getattr(pipe, method)("anything")


def test_without_diffusers_there_is_one_sentence():
    code = "import sys; sys.modules['diffusers'] = None; import nextscale.integrations.diffusers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: diffusers is not installed: run " in done.stderr
    assert "pip install -c constraints.txt -e '.[diffusers]'" in done.stderr


def test_nothing_else_loads_diffusers():
    code = "import sys, nextscale as ns, nextscale.integrations; ns.Pipeline; print('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
