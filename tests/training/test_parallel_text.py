"""Dividing a batch among processes does not change the training of Infinity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_captions
import torch
from processes import two_processes
from safetensors.torch import load_file
from tiny_captions import RECIPE, open_halves, save_tokenizer, text_command
from tiny_infinity import WordEncoder, make_tokenizer

import nextscale as ns

EXACT = ("--dtype", "float32", "--steps", "12", "--validate-every", "6", "--save-every", "6", "--preview-every", "6")
LAST = "checkpoints/step-00000012"
FIGURES = ("loss", "scale_loss", "scale_accuracy", "scale_token_accuracy", "grad_norm", "val_loss")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("parallel") / "tokenizer")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The same run in one process."""
    run = tmp_path_factory.mktemp("parallel") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.transformer_setup.open_examples", open_halves)
        every = {"log_every": 1, "save_every": 6, "validate_every": 6, "preview_every": 6}
        changes = {"steps": 12, "precision": "float32", **every}
        ns.train_transformer("halves", run, make_tokenizer(), RECIPE, text_encoder=WordEncoder(), **changes)
    return run


def figures(run: Path, name: str) -> torch.Tensor:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return torch.tensor([line[name] for line in lines if name in line], dtype=torch.float64)


@pytest.mark.long
@pytest.mark.parametrize("more", [("--accumulate", "2"), ("--strategy", "fsdp", "--recompute")], ids=["ddp", "fsdp"])
def test_two_processes_train_as_one_does_and_one_goes_on(more, tokenizer, alone, tmp_path):
    """Then the last checkpoint is lost, and two processes go on from the one before."""
    run = tmp_path / "run"
    command = text_command(tokenizer, run, *EXACT)
    two_processes([*command, *more], script=tiny_captions.__file__)
    shutil.rmtree(run / LAST)
    assert two_processes([*command, *more], script=tiny_captions.__file__).count("at step 6") == 1
    for name in FIGURES:
        ours, theirs = figures(run, name), figures(alone, name)
        assert len(ours) == len(theirs) > 0
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    ours, theirs = load_file(run / LAST / "model.safetensors"), load_file(alone / LAST / "model.safetensors")
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-3) for key in theirs)
    assert len(list((run / "previews").iterdir())) == 2
