"""Laws are recovered from the folders of a ladder, and written as text, tables and plots."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from tiny import refused
from tiny_ladder import DEPTHS, ERROR, LAST_ERROR, LAST_LOSS, LOSS, VALIDATED, write_ladder, write_run

from nextscale.curves.plot import save
from nextscale.scaling_laws.laws import fit_laws
from nextscale.scaling_laws.plot import formula, number, plot_compute, plot_parameters
from nextscale.scaling_laws.points import MEASURES, find_runs, read_points
from nextscale.scaling_laws.report import describe, power_of_ten, write_fits, write_points


@pytest.fixture
def runs(tmp_path):
    return [read_points(folder, folder.name) for folder in find_runs([write_ladder(tmp_path / "ladder")])]


def test_the_laws_that_wrote_the_logs(runs):
    laws, _ = fit_laws(runs, resamples=50)
    assert [(law.over, law.measure) for law in laws] == [(x, m) for x in ("parameters", "compute") for m in MEASURES]
    for law, expected in zip(laws[:4], (LAST_LOSS, LOSS, LAST_ERROR, ERROR), strict=True):
        assert (law.fit.alpha, law.fit.beta) == pytest.approx(expected)
        np.testing.assert_allclose(law.residuals, 0, atol=1e-9)
        assert law.halves == pytest.approx((expected[0], expected[0]))
    for law in laws[4:]:
        assert law.fit.alpha < 0 and (np.diff(law.x) > 0).all() and (np.diff(law.y) < 0).all()


def test_a_ladder_that_bends_shows_it(runs, tmp_path):
    worst = read_points(write_run(tmp_path / "d05", 4), "flat")
    bent = [*runs[:3], worst]
    bent[3].measures["loss"][-1] = runs[2].measures["loss"][-1]
    law = fit_laws(bent, resamples=50)[0][1]
    smaller, larger = law.halves
    assert smaller == pytest.approx(LOSS[0]) and larger == pytest.approx(0, abs=1e-9)
    assert law.residuals[-1] > 0.01 and law.residuals[1] < 0


def test_sizes_may_come_several_times_but_there_must_be_three(runs, tmp_path):
    twice = [*runs, *runs[:1]]
    assert len(fit_laws(twice, resamples=50)[0][0].x) == len(runs) + 1
    with refused("at least 3 sizes", "got 2 in 3 runs"):
        fit_laws([runs[0], runs[1], runs[1]])


def test_what_gives_no_law_is_said_and_the_others_are_fitted(runs):
    for run in runs:
        run.measures["error"][:] = 0.9
        run.measures["loss"][0] = np.nan
    laws, missing = fit_laws(runs, resamples=50)
    assert len(laws) + len(missing) == 8 and len(missing) >= 2
    assert missing[
        0
    ] == "no law of the token error of all scales over parameters: all 4 points have the value 0.9: " + (
        "expected values that change"
    )
    titles = [axis.get_title() for axis in plot_parameters(runs, laws).axes if axis.get_title()]
    assert len(titles) == 3 and describe(runs, laws, 0.95)
    for run in runs:
        for values in run.measures.values():
            values[:] = 0.9
    with refused("all 4 points have the value 0.9"):
        fit_laws(runs, resamples=50)


def test_the_table_says_it_all(runs):
    said = describe(runs, fit_laws(runs, resamples=50)[0], 0.95)
    assert "4 runs, 73.7 k to 4.72 M parameters (64 times), 240 images each" in said
    assert "-0.2300" in said and "-0.2000" in said and "intervals of 95%" in said
    assert all(f"d0{depth}  " in said for depth in DEPTHS) and "+0.00" in said
    assert "equally many images" not in said


def test_unequal_budgets_are_said(runs):
    runs[1].images[-1] *= 2
    assert "laws over N assume equal numbers of images" in describe(runs, fit_laws(runs, resamples=50)[0], 0.95)


def test_files_hold_every_point_and_every_law(runs, tmp_path):
    laws, _ = fit_laws(runs, resamples=50)
    write_points(tmp_path / "a.csv", runs)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(DEPTHS) * len(VALIDATED)
    assert float(rows[-1]["loss"]) == pytest.approx(runs[-1].measures["loss"][-1])
    assert (rows[-1]["run"], rows[-1]["depth"], rows[-1]["parameters"]) == ("d04", "4", str(73_728 * 64))
    write_fits(tmp_path / "a.json", laws, 50, 0.95, 0)
    fits = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert len(fits["laws"]) == 8 and fits["resamples"] == 50
    assert fits["laws"][1]["alpha"] == laws[1].fit.alpha
    assert [point["run"] for point in fits["laws"][0]["points"]] == [run.name for run in runs]


def test_four_panels_each(runs, tmp_path):
    laws, _ = fit_laws(runs, resamples=50)
    sizes, compute = plot_parameters(runs, laws), plot_compute(runs, laws)
    titles = [axis.get_title() for axis in sizes.axes if axis.get_title()]
    assert [title.split(" (")[0] for title in titles] == [measure.title for measure in MEASURES.values()]
    assert "^{-0.23}" in titles[0] and "Pearson −1.000" in titles[0]
    assert len(compute.axes) == 4
    for axis in compute.axes:
        assert len(axis.lines) == len(runs) + 1
    names = [text.get_text() for text in compute.legends[0].get_texts()]
    assert names[:2] == ["d01, 73.7 k", "d02, 590 k"] and names[-2:] == ["law", "frontier"]
    for figure, name in ((sizes, "a.png"), (compute, "b.svg")):
        save(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize(
    ("number", "said"), [(2.5, "2.5"), (0.0123, "0.0123"), (2.2e-5, "2.2e-05"), (9.99e4, "1e+05"), (3e12, "3e+12")]
)
def test_numbers(number, said):
    assert power_of_ten(np.log(number)) == said


def test_numbers_beyond_floats():
    assert power_of_ten(-1000 * np.log(10) + np.log(3)) == "3e-1000"
    assert (power_of_ten(-np.inf), power_of_ten(np.inf)) == ("0", "inf")
    assert number(3e-5) == r"$3 \cdot 10^{-5}$" and number(1e-6) == "$10^{-6}$" and number(0.03) == "0.03"


def test_beta_in_titles(runs):
    laws, _ = fit_laws(runs, resamples=50)
    assert r"L = (2.0 \cdot N / 10^9)^{-0.23}" in formula(laws[0])
    assert r"\mathrm{Err} = (1.0 \cdot 10^{4} \cdot N / 10^9)^{-0.01}" in formula(laws[2])
