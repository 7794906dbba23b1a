"""Text-to-image transformers that are stored in bfloat16 stay so, memory-mapped, until they are made ready."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var
from tiny_infinity import make_infinity, make_text
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.acceleration import ready as acceleration
from nextscale.acceleration.ready import make_ready
from nextscale.families.sources import load_source
from nextscale.io.fingerprint import quick_fingerprint, weights_fingerprint


def types_of(model: torch.nn.Module) -> set[torch.dtype]:
    return {p.dtype for p in model.parameters()}


def of_files(tmp_path: Path) -> tuple[Path, ...]:
    """Official files of the tiny models, the transformer in bfloat16."""
    states = ns.to_official(make_bits_tokenizer(), make_infinity())
    paths = tmp_path / "vae.pth", tmp_path / "infinity.pth"
    torch.save({"vae": states[0]}, paths[0])
    torch.save({name: tensor.bfloat16() for name, tensor in states[1].items()}, paths[1])
    return paths


def of_folder(tmp_path: Path) -> Path:
    pipeline = ns.Pipeline(make_bits_tokenizer(), make_infinity(), device="cpu")
    pipeline.save_pretrained(tmp_path / "model", torch.bfloat16)
    return tmp_path / "model"


@pytest.mark.parametrize("store", [of_files, of_folder])
def test_a_pipeline_keeps_the_stored_type_and_samples_as_from_float32(tmp_path, store):
    source = store(tmp_path)
    schedule = SCHEDULES["square"] if store is of_files else None
    pipeline = ns.Pipeline.from_pretrained(source, "cpu", "float32", schedule and make_infinity().schedule)
    assert types_of(pipeline.model) == {torch.bfloat16} and types_of(pipeline.tokenizer) == {torch.float32}
    tokenizer, model = pipeline.ready()
    assert types_of(model) == {torch.float32}
    parts = load_source(source, schedule and make_infinity().schedule)
    assert types_of(parts.model) == {torch.float32}
    text, arguments = make_text(3, 5), {"seed": [0, 1], "cfg": 3.0, "top_k": 0, "top_p": 0.0}
    result = ns.sample(tokenizer, model, text, **arguments)
    expected = ns.sample(*make_ready(parts.tokenizer, parts.model, pipeline.precision), text, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(result.tokens, expected.tokens, strict=True))
    assert torch.equal(result.images, expected.images)


def test_fingerprints_do_not_depend_on_the_type_in_memory(tmp_path):
    folder = of_folder(tmp_path)
    stored, converted = (load_source(folder, as_stored=kept).model for kept in (True, False))
    assert types_of(stored) != types_of(converted)
    for fingerprint in (quick_fingerprint, weights_fingerprint):
        assert fingerprint(stored) == fingerprint(converted)


def test_class_conditional_models_are_loaded_in_float32(tmp_path):
    square = SCHEDULES["square"]
    pipeline = ns.Pipeline(make_tokenizer(square), make_var(square), device="cpu")
    pipeline.save_pretrained(tmp_path, torch.bfloat16)
    assert types_of(ns.Pipeline.from_pretrained(tmp_path, "cpu").model) == {torch.float32}


def test_converted_matrices_are_paged_out_in_between(tmp_path, monkeypatch):
    pipeline = ns.Pipeline.from_pretrained(of_folder(tmp_path), "cpu", "float32")
    returned: list[list[str]] = []
    names = {p.data_ptr(): name for name, p in pipeline.model.named_parameters()}

    def spy(tensors) -> None:
        returned.append([names[t.data_ptr()] for t in tensors if t.data_ptr() in names])

    monkeypatch.setattr(acceleration, "page_out", spy)
    monkeypatch.setattr(acceleration, "PAGED_OUT", 20_000)
    pipeline.ready()
    assert len(returned) > 3
    first = [name for some in returned[:-1] for name in some]
    assert len(set(first)) == len(first) and all(name.endswith("weight") for name in first)
