"""Reports record the inputs of metrics, and compare only comparable metrics."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import pytest
import torch
from tiny import refused

from nextscale.evaluation.agreement import Agreement
from nextscale.evaluation.features import INCEPTION
from nextscale.evaluation.inception_score import Scores
from nextscale.evaluation.memorisation import Memorisation, Pair
from nextscale.evaluation.precision_recall import PrecisionRecall
from nextscale.evaluation.reconstruction import Reconstruction, ScaleFigures
from nextscale.evaluation.report import LABELS, PACKAGES, Published, Report

SCORES = Scores(274.0, 3.0, 60.0, 2.0, 280.0, 10, 0)
ONE_PART = Scores(3.56, 0.0, 3.56, 0.0, 3.56, 1, 0)

MEMORISED = Memorisation(
    share=0.01,
    interval=(0.005, 0.02),
    control=0.9,
    control_images=500,
    percentile=1.0,
    threshold=0.5,
    sampled=1.1,
    by_class=True,
    per_class={"hat": (0.05, 0.02), "dress": (0.0, 0.0)},
    pairs=(Pair(4, 7, 3.0),),
)


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "images": 50_000,
        "size": (256, 256),
        "extractor": INCEPTION,
        "fingerprint": "0123456789abcdef",
        "reference": "ref.npz",
        "reference_images": 10_000,
        "reference_crop": "centre",
        "seed": 3,
        "settings": {"cfg": 1.5, "top_k": 900},
        "seconds_of_last_call": 12.5,
        "fid": 3.61,
        "sfid": 8.0,
        "inception_score": SCORES,
        "precision_recall": PrecisionRecall(0.84, 0.51, 1.0, 0.9, 3, 5),
        "memorisation": MEMORISED,
        "warnings": ("a sentence",),
    }
    return Report(**(fields | changes))


def test_written_and_read(tmp_path):
    report().write(tmp_path / "new" / "report.json")
    read = json.loads((tmp_path / "new" / "report.json").read_text())
    assert read["fid"] == 3.61 and read["settings"] == {"cfg": 1.5, "top_k": 900} and read["seed"] == 3
    assert read["inception_score"]["ordered"] == 60 and read["inception_score"]["splits"] == 10
    assert read["precision_recall"]["neighbours"] == 3 and read["memorisation"]["pairs"] == [[4, 7, 3.0]]
    assert read["versions"].keys() == {"python", *PACKAGES} and read["versions"]["torch"] == version("torch")
    assert (
        read["seconds_of_last_call"] == 12.5
        and read["finished"].startswith("20")
        and read["warnings"] == ["a sentence"]
    )


def test_figures():
    figures = report().figures()
    assert figures["inception_score"] == 274 and figures["recall"] == 0.51 and figures["coverage"] == 0.9
    assert report(inception_score=None, precision_recall=None, sfid=None).figures() == {"fid": 3.61}


@pytest.mark.parametrize(
    ("published", "words"),
    [
        (Published("VAR-d16", "fid", 3.55), ("FID 3.61", "1.7 % above", "3.55 published for VAR-d16", "lower is")),
        (Published("VAR-d16", "fid", 3.61), ("the same as 3.61",)),
        (Published("VAR-d16", "inception_score", 274.4), ("274.00", "0.1 % below 274.40", "higher is better")),
        (Published("VAR-d16", "recall", 0.51), ("recall 0.510", "the same")),
        (Published("other", "fid", 3.0, images=10_000), ("not comparable", "50,000", "10,000")),
    ],
)
def test_verdict(published, words):
    line = report().verdict(published)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_figures_of_another_network_are_not_compared():
    line = report(extractor="flat").verdict(Published("VAR-d16", "fid", 3.55))
    assert "not comparable" in line and "flat" in line


def test_what_was_not_measured():
    with refused("'fid'", "sfid"):
        report(fid=None).verdict(Published("VAR-d16", "fid", 3.55))
    with refused("'loss'", "fid"):
        report().verdict(Published("VAR-d16", "loss", 3.55))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_none(value):
    with refused("FID", value, "finite"):
        report(fid=value)


def test_settings_that_json_lacks(tmp_path):
    with refused(tmp_path / "report.json", "Tensor"):
        report(settings={"cfg": torch.zeros(1)}).write(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_figures_of_other_settings_are_not_compared():
    published = Published("VAR-d16", "fid", 3.55, settings={"cfg": 1.5, "top_k": 900, "top_p": 0.96})
    line = report(settings={"cfg": 4.0, "top_k": 900, "top_p": 0.96}).verdict(published)
    assert "sampled with cfg 4.0: not comparable" in line and "sampled with cfg 1.5" in line and "top_k" not in line
    assert "1.7 % above" in report(settings=published.settings).verdict(published)


def test_the_table_says_all_that_was_measured():
    agreement = Agreement(0.5, {"hat": 0.25, "dress": 0.75}, 0.9, "real ones")
    table = report(agreement=agreement, verdict_line="a verdict").table()
    assert "50,000 images" in table and "against ref.npz, 10,000 images, centre crop" in table
    assert "274.00 +- 3.00 shuffled, 60.00 in the order they came, 280.00 all at once" in table
    assert "0.500 (real ones: 0.900); lowest: hat 0.250, dress 0.750" in table
    for words in (
        *(LABELS[name][0] for name in report().figures()),
        "a verdict",
        "note: a sentence",
        "1.0 % of the samples",
        "this check finds 90.0 %.",
    ):
        assert words in table


def test_a_score_of_one_part_is_said_once():
    """Shuffled, in order and all at once are then one number."""
    line = next(line for line in report(inception_score=ONE_PART).table().splitlines() if "Inception Score" in line)
    assert line.split()[2] == "3.56" and line.count("3.56") == 1 and "+-" not in line and "as one part" in line


def test_the_table_of_a_tokenizer():
    scales = (ScaleFigures((1, 1), 12.5, 0.25, 80.0), ScaleFigures((2, 2), 20.0, 0.5, 90.0))
    ours = report(reconstruction=Reconstruction(20.0, 0.7, None, 4096, 7, 0.125, scales))
    assert ours.figures()["psnr"] == 20 and "lpips" not in ours.figures()
    for words in ("rFID", "rsFID", "0.1250", "7 of 4096", "1x1    12.50    0.250        80.0"):
        assert words in ours.table()
