"""Sampling as one CUDA graph, as far as it can be tested without a GPU."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils.backend_registration as registration
from tiny import CLASSES, Models, refused, same

import nextscale as ns
from nextscale.sampling import recorded as recorded_module
from nextscale.sampling.recorded import RecordedSampler
from nextscale.sampling.settings import SamplingSettings

TESTS = Path(__file__).parents[1]
SETTINGS = SamplingSettings(cfg=2.0, top_k=9, top_p=0.9)


@pytest.fixture
def recorded(monkeypatch):
    """In place of a GPU's graph: everything is done anew, and what comes out is put in the same places."""

    def capture(run, generators):
        step, tokens, images = result = run()

        def repeat():
            again, *others = run()
            places, values = [step.finite, *tokens, images], [again.finite, *others[0], others[1]]
            for place, value in zip(places, values, strict=True):
                place.copy_(value)
            return result

        return repeat

    monkeypatch.setattr(recorded_module, "capture", capture)


@pytest.mark.parametrize("each", [False, True], ids=["one seed", "a seed each"])
def test_a_graph_draws_what_sample_draws(square: Models, recorded, each):
    draw = RecordedSampler(*square, 2, SETTINGS, each)
    labels_place, earlier = draw._labels, []
    for labels, seed in (([0, 1], 3), ([4, CLASSES], 8), (None, 5), ("unconditional", 5)):
        seeds = [seed, seed + 1] if each else seed
        found = draw(labels, seeds)
        expected = ns.sample(*square, labels, num_images=2, seed=seeds, cfg=2.0, top_k=9, top_p=0.9)
        assert same(found.tokens, expected.tokens) and torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)
        earlier.append((found, [x.clone() for x in (found.images, found.labels, *found.tokens)]))
    assert draw._labels is labels_place  # from where a graph reads
    for found, kept in earlier:  # results stay as they were
        assert same([found.images, found.labels, *found.tokens], kept)


def test_a_graph_is_of_one_size(square: Models, recorded):
    draw = RecordedSampler(*square, 2)
    with refused(3, 2):
        draw([0, 1, 2])
    with refused("one seed for all", 2):
        draw([0, 1], [3, 4])
    with refused("each", "1"):
        RecordedSampler(*square, 2, seed_per_image=True)([0, 1], 3)
    with refused("out of range", CLASSES + 1):
        draw([0, CLASSES + 1])


def test_a_graph_of_damaged_weights(square: Models, recorded):
    tokenizer, model = square
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)
    with refused("not finite"):
        RecordedSampler(tokenizer, broken, 1)([0])


def test_a_graph_needs_a_gpu(square: Models):
    with refused("CUDA", "cpu"):
        RecordedSampler(*square, 1)


@pytest.mark.skipif(not hasattr(registration, "_setup_privateuseone_for_python_backend"), reason="PyTorch is older")
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 11])
def test_a_gpu_is_never_waited_for(every):
    """So that its work can be recorded: no value is looked at, and nothing of the CPU is mixed in."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    program = [sys.executable, str(TESTS / "simulated_gpu.py"), str(every)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"drawn {2 * len(range(0, 32, every))} times without a look\n"
