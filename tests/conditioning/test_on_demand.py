"""A text encoder that is loaded when the first prompt comes."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny import refused
from tiny_infinity import WordEncoder
from tiny_t5 import write_t5

from nextscale.conditioning.on_demand import OnDemandEncoder, as_encoder
from nextscale.conditioning.t5 import T5TextEncoder

PROMPTS = ["a fox in the snow", "two red cars on a wet street at night", "a bee"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_t5(tmp_path_factory.mktemp("t5"))


def test_it_is_the_encoder(folder):
    ours, theirs = OnDemandEncoder(folder, 5), T5TextEncoder(folder, max_tokens=5)
    assert torch.equal(ours.encode(PROMPTS).features, theirs.encode(PROMPTS).features)
    assert ours.fingerprint == theirs.fingerprint and max(ours.encode(PROMPTS).lengths) == 5


def test_nothing_is_looked_for_before_the_first_prompt(tmp_path):
    encoder = OnDemandEncoder(tmp_path / "nowhere", 5)
    for use in (lambda: encoder.encode(["a"]), lambda: encoder.check(["a"]), lambda: encoder.fingerprint):
        with refused("nowhere"):
            use()
    with refused("no text encoder"):
        OnDemandEncoder("", 5).encode(["a"])


def test_threads_load_it_once(folder, monkeypatch):
    loaded = []

    class Counted(T5TextEncoder):
        def __init__(self, *arguments, **options):
            loaded.append(1)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("nextscale.conditioning.t5.T5TextEncoder", Counted)
    encoder, found = OnDemandEncoder(folder, 512), []
    threads = [threading.Thread(target=lambda: found.append(encoder.encode(PROMPTS).features)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1 and len(found) == 4 and all(torch.equal(found[0], other) for other in found)


def test_other_encoders_stay_what_they_are(folder):
    encoder = WordEncoder()
    assert as_encoder(encoder, 3) is encoder
    assert isinstance(as_encoder(str(folder), 3), OnDemandEncoder)
