"""Logs are read up to the last complete line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import refused
from tiny_logs import SIDES, tokenizer_lines, transformer_lines, write_run

from nextscale.curves.log import FEW, Series, read_run


def test_a_log_gives_back_what_was_logged(tmp_path):
    lines = transformer_lines()
    run = read_run(write_run(tmp_path / "run", lines))
    for figure in ("loss", "scale_accuracy", "val_scale_loss"):
        logged = [(line["step"], line[figure]) for line in lines if figure in line]
        assert run.series[figure].steps.tolist() == [step for step, _ in logged]
        assert run.series[figure].values.tolist() == [value for _, value in logged]
    assert (run.name, run.batch_size, run.codebook_size) == ("run", 8, 64)
    assert run.sizes == tuple((side, side) for side in SIDES)
    assert run.chance == pytest.approx(np.log(64))


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_leaves_the_lines_before_it(tmp_path, cut):
    lines = transformer_lines()
    whole = read_run(write_run(tmp_path / "whole", lines[:-2]))
    torn = write_run(tmp_path / "torn", lines[:-2])
    with (torn / "log.jsonl").open("a") as file:
        file.write(json.dumps(lines[-2])[:cut])
    assert len(read_run(torn).series["loss"].steps) == len(whole.series["loss"].steps)


def test_texts_are_no_figures_and_unknown_figures_are(tmp_path):
    lines = [{"step": 1, "alarm": "collapse", "unreadable": "a.png", "new": 3, "none": None, "nan": float("nan")}]
    assert read_run(write_run(tmp_path / "run", lines)).series.keys() == {"new"}


def test_what_is_missing_of_a_figure_is_nan(tmp_path):
    lines = [{"step": 1, "a": [1, 2]}, {"step": 2, "a": [3]}, {"step": 3, "a": [None, float("inf")]}]
    values = read_run(write_run(tmp_path / "run", lines)).series["a"].values
    np.testing.assert_equal(values, [[1, 2], [3, np.nan], [np.nan, np.inf]])


def test_a_run_without_recipe_and_checkpoint_has_curves_all_the_same(tmp_path):
    run = read_run(write_run(tmp_path / "run", transformer_lines(), None, None))
    assert "loss" in run.series and run.batch_size is None and run.chance is None and run.sizes == ()


def test_a_tokenizer_guesses_no_tokens(tmp_path):
    run = read_run(write_run(tmp_path / "run", tokenizer_lines()))
    assert not run.predicts_tokens and run.chance is None and len(run.sizes) == len(SIDES)


def test_what_is_no_log(tmp_path):
    with refused(tmp_path / "nowhere" / "log.jsonl", "expected the folder"):
        read_run(tmp_path / "nowhere")
    with refused("no metrics yet"):
        read_run(write_run(tmp_path / "empty", []))
    with refused("line 2", "log.jsonl"):
        read_run(write_run(tmp_path / "damaged", [{"step": 1, "loss": 1}, {"loss": 2}]))
    (tmp_path / "damaged" / "log.jsonl").write_text('{"step": 1, "loss": 1}\n{"step"\n{"step": 2, "loss": 1}\n')
    with refused("line 2"):
        read_run(tmp_path / "damaged")


@pytest.mark.parametrize("shape", [(300,), (300, 3)])
def test_smoothing(shape):
    rng = np.random.default_rng(0)
    series = Series(np.arange(300.0), rng.normal(5, 1, shape))
    smooth = series.smoothed(10).values
    np.testing.assert_allclose(smooth[-1], series.values[-10:].mean(axis=0))
    np.testing.assert_allclose(smooth[:FEW], series.values[:FEW])
    np.testing.assert_allclose(series.smoothed(1).values, series.values)
    assert (smooth.std(axis=0) < series.values.std(axis=0)).all()


def test_smoothing_passes_over_what_is_not_finite():
    values = np.full(300, 0.02)
    values[[0, 150, 299]] = np.nan, np.inf, np.nan
    smooth = Series(np.arange(300.0), values).smoothed(10).values
    assert np.isnan(smooth[0])
    np.testing.assert_allclose(smooth[1:], 0.02, rtol=1e-14)
