"""Stored features: the same bits as fresh ones, from any number of writers, and never from damaged files."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import refused

import nextscale as ns
from nextscale.conditioning.feature_cache import CachedEncoder, read_features, write_features
from nextscale.conditioning.prompts import check_prompts

PROMPTS = ["a fox", "שלום עולם", "🦊 in ❄️", "a fox"]


class Letters:
    """An encoder with a row of numbers for each letter, which counts how often it encodes a prompt."""

    def __init__(self, fingerprint: str = "letters", dtype: torch.dtype = torch.float32):
        self.fingerprint, self.dtype = fingerprint, dtype
        self.encoded: list[str] = []

    def check(self, prompts) -> None:
        check_prompts(prompts)

    def encode(self, prompts) -> ns.TextFeatures:
        self.encoded += prompts
        seeds = [int(hashlib.sha256((prompt + self.fingerprint).encode()).hexdigest()[:8], 16) for prompt in prompts]
        parts = [
            torch.randn(len(p), 8, generator=torch.Generator().manual_seed(s))
            for p, s in zip(prompts, seeds, strict=True)
        ]
        return ns.TextFeatures.of([part.to(self.dtype).float() for part in parts])


def same(a: ns.TextFeatures, b: ns.TextFeatures) -> bool:
    return a.lengths == b.lengths and torch.equal(a.features, b.features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_stored_features_are_the_same_bits(tmp_path, dtype):
    fresh = Letters(dtype=dtype).encode(PROMPTS)
    first, second = Letters(dtype=dtype), Letters(dtype=dtype)
    assert same(CachedEncoder(first, tmp_path).encode(PROMPTS), fresh) and first.encoded == PROMPTS[:3]
    assert same(CachedEncoder(second, tmp_path).encode(PROMPTS), fresh) and not second.encoded
    assert same(
        CachedEncoder(second, tmp_path).encode(["a bee", "a fox"]), Letters(dtype=dtype).encode(["a bee", "a fox"])
    )
    assert second.encoded == ["a bee"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4 and not list(tmp_path.rglob("*.tmp"))


def test_half_precision_takes_half_the_space(tmp_path):
    sizes = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        features = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).to(dtype).float()
        write_features(tmp_path / "x.safetensors", features)
        assert torch.equal(read_features(tmp_path / "x.safetensors"), features)  # type: ignore[arg-type]
        sizes.append((tmp_path / "x.safetensors").stat().st_size)
    assert sizes[0] > 50 * 64 * 4 and max(sizes[1:]) < 50 * 64 * 2 + 300


def test_another_encoder_has_features_of_its_own(tmp_path):
    a, b = (CachedEncoder(Letters(name), tmp_path) for name in ("a", "b"))
    assert a.fingerprint == "a"
    assert not same(a.encode(["a fox"]), b.encode(["a fox"]))
    assert same(a.encode(["a fox"]), Letters("a").encode(["a fox"]))


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "cut":
        content = content[:-7]
    elif how == "empty":
        content = bytearray()
    elif how == "flipped":
        content[-9] ^= 64
    elif how == "other":
        ns_file = {"features": torch.ones(2, 8)}
        from safetensors.torch import save

        content = bytearray(save(ns_file))
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "other"])
def test_damaged_files_are_encoded_again(tmp_path, how):
    encoder = CachedEncoder(Letters(), tmp_path)
    fresh = encoder.encode(["a fox"])
    damage(encoder.path("a fox"), how)
    again = CachedEncoder(Letters(), tmp_path)
    assert same(again.encode(["a fox"]), fresh) and again.encoder.encoded == ["a fox"]  # type: ignore[attr-defined]
    assert same(again.encode(["a fox"]), fresh) and again.encoder.encoded == ["a fox"]  # type: ignore[attr-defined]


def test_many_writers_of_one_folder(tmp_path):
    prompts = [f"fox {i % 5}" for i in range(40)]
    said: list[str] = []
    encoders = [CachedEncoder(Letters(), tmp_path, said.append) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: encoders[i % 4].encode([prompts[i]]), range(40)))
    assert all(same(result, Letters().encode([prompt])) for result, prompt in zip(results, prompts, strict=True))
    assert not said and len(list(tmp_path.rglob("*.safetensors"))) == 5 and not list(tmp_path.rglob("*.tmp"))


def test_prompts_are_checked_although_they_are_stored(tmp_path):
    with refused("prompt 1 is empty"):
        CachedEncoder(Letters(), tmp_path).encode(["a fox", " "])


def test_a_folder_that_cannot_be_written_to(tmp_path):
    said: list[str] = []
    blocked = tmp_path / "file"
    blocked.touch()
    encoder = CachedEncoder(Letters(), blocked, said.append)
    assert same(encoder.encode(PROMPTS), Letters().encode(PROMPTS))
    assert same(encoder.encode(PROMPTS), Letters().encode(PROMPTS))
    assert len(said) == 1 and "not stored" in said[0] and str(blocked) in said[0]
    assert os.path.getsize(blocked) == 0


def test_a_long_stored_prompt_is_still_said_to_be_cut(tmp_path):
    pytest.importorskip("sentencepiece")
    pytest.importorskip("transformers")
    from tiny_t5 import write_t5

    from nextscale.conditioning.t5 import T5TextEncoder

    folder, said = write_t5(tmp_path / "t5"), []
    prompts = ["a fox in the snow " * 10, "a fox"]
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "max_tokens": 20, "tell": said.append}
    fresh = T5TextEncoder(folder, **options).encode(prompts)
    for _ in range(2):
        said.clear()
        encoder = T5TextEncoder(folder, **options)
        loaded = not list(tmp_path.rglob("cache/**/*.safetensors"))
        assert same(CachedEncoder(encoder, tmp_path / "cache").encode(prompts), fresh)
        assert encoder.is_loaded == loaded and len(said) == 1
