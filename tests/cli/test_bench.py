"""``nextscale bench``."""

from __future__ import annotations

import json

import pytest
import torch

from nextscale.runtime.device import has_fast_bfloat16


@pytest.mark.parametrize("verb", ["sample", "decode", "load", "train"])
def test_it_tells_and_writes_what_it_found(call, model, place, verb):
    code, out, _ = call("bench", verb, "--model", model, "--device", "cpu", "--repeats", 2, "--json", "found.json")
    assert code == 0 and f"{verb}: {model}, batch 1" in out and "per second" in out
    found = json.loads((place / "found.json").read_text())
    assert len(found["seconds"]) == 2 and found["median"] > 0
    in_training = "bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32"
    assert found["dtype"] == (in_training if verb == "train" else "float32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sample", "--batch", 0), ["batch", "0"]),
        (("decode", "--repeats", 0), ["repeats", "0"]),
        (("load", "--batch", 2), ["batch must be 1", "2"]),
        (("sample", "--random", "d17"), ["'d17'", "d16"]),
        (("sample", "--random", "d16", "--model", "elsewhere"), ["expected one model, got two", "d16", "elsewhere"]),
        (("decode", "--repeats", 1, "--against", "false"), ["'false'", "exit code 1"]),
    ],
)
def test_bad_input(call, arguments, words):
    code, _, err = call("bench", *arguments, "--device", "cpu")
    assert code == 2 and err.count("\n") == 1
    assert all(word in err for word in words)
