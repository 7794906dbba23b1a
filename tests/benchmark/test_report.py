"""Percentiles and ratios of a report."""

from __future__ import annotations

import pytest

from nextscale.benchmark.report import Report


@pytest.mark.parametrize(
    ("seconds", "median", "p95"),
    [([3.0], 3, 3), ([2.0, 1.0, 3.0], 2, 3), ([float(i) for i in range(1, 101)], 50.5, 95)],
)
def test_percentiles(seconds, median, p95):
    report = Report("sample", "tiny", "cpu", "float32", 2, "images", seconds)
    assert (report.median, report.p95) == (median, p95)


def test_the_ratio_is_of_medians():
    report = Report("sample", "tiny", "cpu", "float32", 1, "images", [1.0, 2.0, 9.0], theirs=[8.0, 3.0, 4.0])
    assert report.ratio == 2 and report.record()["ratio"] == 2
