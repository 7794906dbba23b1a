"""The pipeline: from class names to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import CLASSES, SCHEDULES, make_tokenizer, make_var, random_tokens, refused, same

import nextscale as ns
from nextscale.acceleration.prepared import KeptModels

NAMES = ("ankle boot", "Dress", "hat", "shirt", "7")
SQUARE = SCHEDULES["square"]


@pytest.fixture
def pipeline() -> ns.Pipeline:
    return ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), NAMES, device="cpu")


def pixels(result) -> list[bytes]:
    return [image.tobytes() for image in result.images]


def test_it_draws_what_the_sampler_draws(tiny_tokenizer, tiny_var):
    options = {"cfg": 2.0, "top_k": 5, "top_p": 0.9, "seed": [4, 5], "more_smooth": True}
    result = ns.Pipeline(tiny_tokenizer, tiny_var, device="cpu")(labels=[0, 3], **options)
    expected = ns.sample(tiny_tokenizer, tiny_var, [0, 3], **options)
    assert same(result.tokens, expected.tokens)
    for image, tensor in zip(result.images, expected.images, strict=True):
        h, w = tensor.shape[1:]
        assert (image.mode, image.size) == ("RGB", (w, h))
        assert image.getpixel((w - 1, 0)) == tuple(tensor[:, 0, w - 1].mul(255).round().int().tolist())


def test_names_and_numbers_of_classes(pipeline):
    result = pipeline(labels=["ankle boot", "dress", 2, "3", "7", torch.tensor(1)])
    assert result.labels == [0, 1, 2, 3, 4, 1]


def test_labels_of_other_kinds(pipeline):
    assert pipeline(num_images=3).labels == pipeline(None, num_images=3).labels
    assert pipeline("unconditional", num_images=2).labels == [CLASSES] * 2
    assert pipeline("none", num_images=2).labels == [CLASSES] * 2
    assert pipeline(["unconditional", "hat", "none"]).labels == [CLASSES, 2, CLASSES]
    assert pipeline(torch.tensor([1, CLASSES])).labels == [1, CLASSES]


def test_classes_without_names_are_called_by_number():
    pipeline = ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu")
    assert pipeline.class_names == list("01234")
    assert pipeline.class_id("3") == 3


def test_the_last_step_is_the_image(pipeline):
    *_, step = pipeline.scales(["hat"], seed=3)
    assert [p.tobytes() for p in pipeline.images(step)] == pixels(pipeline(["hat"], seed=3))


def test_steps_leave_the_caller_s_precision_alone():
    pipeline = ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu", dtype="bfloat16")
    for _ in pipeline.scales([0]):
        assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()


def test_bfloat16_is_near_float32():
    images = {}
    for dtype in ("float32", "bfloat16"):
        pipeline = ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu", dtype=dtype)
        edit = ns.TokenEdit(random_tokens(SQUARE), torch.ones(SQUARE.final_size))
        *_, step = pipeline.scales([0, 1], edit=edit)
        images[dtype] = step.image()
        assert step.canvas.dtype == step.logits.dtype == torch.float32
    torch.testing.assert_close(images["bfloat16"], images["float32"], atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cfg", [0.0, 2.0])
def test_a_image_of_its_own_seed_is_the_same_in_any_batch(dtype, cfg):
    pipeline = ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu", dtype=dtype)
    labels, seeds = [0, 1, 2, 3, 4, 0, 1], [9, 8, 7, 6, 5, 4, 3]
    *_, together = pipeline.scales(labels, seed=seeds, cfg=cfg)
    for i in range(len(seeds)):
        *_, alone = pipeline.scales([labels[i]], seed=[seeds[i]], cfg=cfg)
        assert torch.equal(alone.logits[0], together.logits[i])
    assert pixels(pipeline(labels, seed=seeds, cfg=cfg))[2:3] == pixels(pipeline(labels[2:3], seed=seeds[2:3], cfg=cfg))


def test_auto_is_float32_for_small_models(pipeline):
    assert pipeline.dtype == "float32"


def test_changed_weights_are_made_ready_anew():
    with torch.random.fork_rng():
        model = ns.VAR(make_var(SQUARE).config)
    pipeline = ns.Pipeline(make_tokenizer(SQUARE), model, device="cpu")
    first = pipeline.ready()
    assert pipeline.ready() is first
    model.load_state_dict(make_var(SQUARE).state_dict())
    expected = ns.sample(make_tokenizer(SQUARE), make_var(SQUARE), [1, 2], seed=3)
    assert same(pipeline([1, 2], seed=3, cfg=1.5, top_p=0.96).tokens, expected.tokens)


def test_a_recorded_pipeline_samples_the_same(pipeline, monkeypatch):
    """Without a GPU a recording is replayed by running it again; which calls are recorded is seen all the same."""
    recorded = []

    def capture(run, generators):
        recorded.append(len(generators))
        return run

    monkeypatch.setattr("nextscale.sampling.recorded.capture", capture)
    expected = [
        pipeline([1, 2], seed=3),
        pipeline([1, 2], seed=[3, 4]),
        pipeline(num_images=2, seed=5, temperature=0.7),
    ]
    pipeline._cuda_graph = True
    for _ in range(2):
        found = [
            pipeline([1, 2], seed=3),
            pipeline([1, 2], seed=[3, 4]),
            pipeline(num_images=2, seed=5, temperature=0.7),
        ]
        for ours, theirs in zip(found, expected, strict=True):
            assert same(ours.tokens, theirs.tokens) and ours.labels == theirs.labels
    assert recorded == [1, 2, 1]
    processed = pipeline([1, 2], seed=3, logits_processor=lambda logits, visit: -logits)
    assert not same(processed.tokens, expected[0].tokens) and len(recorded) == 3


@pytest.mark.parametrize("option", ["compile", "cuda_graph"])
def test_options_for_gpus(option):
    asked: dict[str, Any] = {option: True}
    with refused(option, "CUDA", "cpu"):
        ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), device="cpu", **asked)


def test_a_compiled_pipeline_compiles_the_ready_models(pipeline, monkeypatch):
    compiled = []
    monkeypatch.setattr("nextscale.acceleration.prepared.compile_parts", lambda *parts: compiled.append(parts))
    compiling = ns.Pipeline(pipeline.tokenizer, pipeline.model, device="cpu")
    models = compiling._models
    assert isinstance(models, KeptModels)
    object.__setattr__(models.preparation, "compile", True)
    assert same(compiling([1], seed=3).tokens, pipeline([1], seed=3).tokens)
    assert compiled == [compiling.ready()]


def test_hooks_reach_the_sampler(pipeline):
    plain = pipeline([1, 2], seed=3)
    assert same(pipeline([1, 2], seed=3, logits_processor=lambda logits, visit: logits).tokens, plain.tokens)
    assert same(
        pipeline([1, 2], seed=3, guidance=lambda visit: 4.0 * SQUARE.position(visit.index)).tokens, plain.tokens
    )
    assert not same(pipeline([1, 2], seed=3, guidance=lambda visit: 0.0).tokens, plain.tokens)


def test_unknown_arguments_name_a_near_miss(pipeline):
    with refused("'tempratur'", "temperature"):
        pipeline([1], tempratur=2)


def test_editing(pipeline):
    given = random_tokens(SQUARE)
    result = pipeline([0, 1], edit=ns.TokenEdit(given, torch.ones(SQUARE.final_size)))
    expected = pipeline.tokenizer.decode(given)[0, :, 0, 0].add(1).mul(127.5).round().int().tolist()
    assert result.images[0].getpixel((0, 0)) == pytest.approx(expected, abs=1)


def test_saved_and_loaded_it_draws_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "a" / "b")
    loaded = ns.Pipeline.from_pretrained(tmp_path / "a" / "b", device="cpu")
    assert pixels(loaded(NAMES)) == pixels(pipeline(NAMES))
    assert loaded.class_names == pipeline.class_names


def test_saved_in_half_precision_it_loads_in_float32(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, torch.float16)
    for part in ("tokenizer", "transformer"):
        stored = load_file(tmp_path / part / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded = ns.Pipeline.from_pretrained(tmp_path, device="cpu")
    for module, original in ((loaded.tokenizer, pipeline.tokenizer), (loaded.model, pipeline.model)):
        for p, q in zip(module.parameters(), original.parameters(), strict=True):
            assert torch.equal(p, q.half().float())


def test_a_folder_that_cannot_be_written(pipeline, tmp_path):
    (tmp_path / "file").write_text("")
    with refused(tmp_path / "file"):
        pipeline.save_pretrained(tmp_path / "file")
    with refused(tmp_path / "file"):
        pipeline.save_pretrained(tmp_path / "file" / "model")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("shrit", ["shirt"]), ("giraffe", ["ankle boot", "Dress"]), ("", ["Dress"]), ("--3", []), ("²", [])],
)
def test_unknown_classes(pipeline, name, words):
    with refused(repr(name), "0..4", *words):
        pipeline([name])


@pytest.mark.parametrize("label", [-1, "-1", CLASSES + 1, "99"])
def test_labels_out_of_range(pipeline, label):
    with refused(f"label {label}", "0..4"):
        pipeline([label])


def test_a_number_is_no_list_of_labels(pipeline):
    with refused("labels"):
        pipeline(3)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"cfg": float("nan")}, ["cfg", "nan", "finite"]),
        ({"cfg": float("inf")}, ["cfg", "inf", "finite"]),
        ({"top_p": 1.5}, ["top-p", 1.5, "0 (off) and 1"]),
        ({"top_k": -1}, ["top-k", -1, "0 (off)"]),
        ({"seed": [1]}, ["each of the 2 images", "got 1"]),
        ({"num_images": 3}, ["2 labels", "3 images"]),
        ({"labels": []}, ["at least one label"]),
        ({"labels": None}, ["num_images"]),
        ({"labels": "dress"}, ["'dress'", "unconditional"]),
    ],
    ids=str,
)
def test_arguments_out_of_range(pipeline, option, words):
    with refused(*words):
        pipeline(**({"labels": [0, 1]} | option))


def test_parts_that_do_not_fit_together():
    with refused("schedule", SQUARE, SCHEDULES["rectangular"]):
        ns.Pipeline(make_tokenizer(SCHEDULES["rectangular"]), make_var(SQUARE))
    with refused("5 classes", "2 names"):
        ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), ["a", "b"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"device": "toaster"}, ["'toaster'", "cpu"]),
        ({"dtype": "float8"}, ["'float8'", "bfloat16"]),
        ({"device": "cpu", "dtype": "float16"}, ["float16", "bfloat16"]),
    ],
    ids=str,
)
def test_devices_and_precisions_that_are_not_there(option, words):
    with refused(*words):
        ns.Pipeline(make_tokenizer(SQUARE), make_var(SQUARE), **option)


def test_the_result_lies_on_no_disk(pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline([0])
    assert not list(Path(tmp_path).iterdir())
