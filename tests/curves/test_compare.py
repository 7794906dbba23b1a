"""Runs are compared by their common metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import refused
from tiny_logs import SIDES, tokenizer_lines, transformer_lines, write_run

from nextscale.curves.compare import comparable, verdict_lines
from nextscale.curves.log import read_run
from nextscale.curves.reference import D16, STARTER, nearest


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


@pytest.mark.parametrize(
    ("codebook_size", "side", "name"),
    [(1024, 8, "starter"), (64, 3, "starter"), (4096, 16, "official d16"), (4096, 32, "official d16")],
)
def test_the_nearest_reference_has_a_similar_number_of_codes_and_tokens(run, codebook_size, side, name):
    assert nearest(replace(run, codebook_size=codebook_size, sizes=((side, side),))).name == name


def test_the_starter_is_what_its_documentation_says():
    """docs/reference-curves.md has these lines of its log."""
    assert STARTER.tokens == 130 and STARTER.batch_size == 32 and STARTER.series["loss"].steps[-1] == 4500
    values = {name: dict(zip(of.steps, of.values, strict=True)) for name, of in STARTER.series.items()}
    assert values["loss"][20] == 6.862 and values["loss"][200] == 4.858 and values["last_scale_loss"][200] == 6.185
    assert values["val_loss"][4500] == 3.869 and values["val_last_scale_loss"][500] == 6.028
    assert values["loss"][4500] == pytest.approx(3.770, abs=0.02)  # the last line, which is not smoothed
    for of in STARTER.series.values():
        assert (np.diff(of.values) < 0).all()


def test_a_small_run_is_compared_with_the_nearest_reference_too(tmp_path):
    run = read_run(write_run(tmp_path / "run", transformer_lines(), codebook_size=1024))
    (ours,), theirs = comparable([run], D16)
    first, second = verdict_lines(ours, theirs, smooth=1)
    assert "official d16 has no earlier point than 1.28 M images" in first
    expected = np.interp(np.log(4000), np.log(32 * STARTER.series["loss"].steps), STARTER.series["loss"].values)
    assert f"run: after 4 k images: loss 2.04, starter {expected:.2f} at the same point" in second
    assert "starter is the nearest bundled reference: 130 tokens of 1024 codes, and run has 14 tokens of 1024" in second
    assert "--compare starter" in second


def test_one_comparison_is_enough_where_the_reference_has_a_value(run, tmp_path):
    assert len(verdict_lines(run, STARTER, smooth=1)) == 1
    assert len(verdict_lines(run, run, smooth=1)) == 1
    large = replace(run, batch_size=100_000)
    assert len(verdict_lines(large, D16, smooth=1)) == 1
    alike = replace(run, codebook_size=4096, sizes=D16.sizes)
    assert len(verdict_lines(alike, D16, smooth=1)) == 1  # early, but no other reference is nearer
