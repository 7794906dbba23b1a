"""Runs are compared by their common metrics."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import refused
from tiny_logs import SIDES, tokenizer_lines, transformer_lines, write_run

from nextscale.curves.compare import comparable
from nextscale.curves.log import read_run
from nextscale.curves.reference import D16


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "run", transformer_lines()))


def test_only_what_both_have(run):
    (ours,), theirs = comparable([run], D16)
    assert {name.removeprefix("val_") for name in ours.series} == theirs.series.keys()
    assert {"loss", "last_scale_loss", "accuracy", "last_scale_accuracy"} < theirs.series.keys()


def test_shares_of_guessing_begin_near_1_where_codebooks_differ(run, tmp_path):
    (ours,), theirs = comparable([run], D16)
    assert theirs.series["loss_share"].values[0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(ours.series["loss_share"].values * np.log(64), ours.series["loss"].values)
    alike = read_run(write_run(tmp_path / "alike", transformer_lines(), codebook_size=4096))
    assert "loss_share" not in comparable([alike], D16)[1].series


def test_the_accuracy_of_all_tokens_weighs_scales_by_their_tokens(run):
    (ours,), _ = comparable([run], D16)
    tokens = [side * side for side in SIDES]
    mean = sum(n * a for n, a in zip(tokens, [0.3, 0.2, 0.1], strict=True)) / sum(tokens)
    np.testing.assert_allclose(ours.series["accuracy"].values, mean)
    np.testing.assert_allclose(ours.series["last_scale_accuracy"].values, 0.1)


def test_two_runs_share_all_their_figures(run):
    (ours,), theirs = comparable([run], run)
    assert run.series.keys() < ours.series.keys() == theirs.series.keys()


def test_what_cannot_be_compared(tmp_path, run):
    tokenizer = read_run(write_run(tmp_path / "tokenizer", tokenizer_lines()))
    with refused("tokenizer", "official d16", "transformer"):
        comparable([run, tokenizer], D16)
    with refused("recipe.json"):
        comparable([read_run(write_run(tmp_path / "a", transformer_lines(), batch_size=None))], D16)
    with refused("codebook size", "checkpoint"):
        comparable([read_run(write_run(tmp_path / "b", transformer_lines(), codebook_size=None))], D16)
    with refused("no training loss"):
        comparable([read_run(write_run(tmp_path / "c", [{"step": 1, "val_loss": 1}]))], D16)
    comparable([tokenizer], tokenizer)
