"""Dividing a batch among processes does not change the training of InfinityStar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_clips
import torch
from processes import two_processes
from safetensors.torch import load_file
from tiny_clips import RECIPE, clip_command, log, make_tokenizer, open_latents

import nextscale as ns

LAST = "checkpoints/step-00000006"
FIGURES = ("loss", "scale_loss", "scale_accuracy", "scale_token_accuracy", "grad_norm", "val_loss")
EVERY: dict[str, Any] = {"steps": 6, "log_every": 1, "save_every": 3, "validate_every": 3, "preview_every": 6}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run in one process."""
    run = tmp_path_factory.mktemp("parallel") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.training.transformer_setup.open_examples", open_latents)
        ns.train_transformer("halves", run, make_tokenizer(), RECIPE, **EVERY)
    return run


@pytest.mark.long
@pytest.mark.parametrize("more", [("--accumulate", "2"), ("--strategy", "fsdp", "--recompute")], ids=["ddp", "fsdp"])
def test_two_processes_train_as_one_does(more, alone, tmp_path):
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    run, every = tmp_path / "run", [f"--{name.replace('_', '-')}={value}" for name, value in EVERY.items()]
    two_processes(clip_command(tmp_path / "tokenizer", run, *every, *more), script=tiny_clips.__file__)
    for name in FIGURES:
        ours, theirs = (torch.tensor(log(folder, name)) for folder in (run, alone))
        assert len(ours) == len(theirs) > 0
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    ours, theirs = load_file(run / LAST / "model.safetensors"), load_file(alone / LAST / "model.safetensors")
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-3) for key in theirs)
    assert len(list((run / "previews").iterdir())) == 1
