"""Plots have a panel for each metric, and a legend for all runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny import refused
from tiny_logs import tokenizer_lines, transformer_lines, write_run

from nextscale.curves.compare import comparable
from nextscale.curves.log import read_run
from nextscale.curves.plot import plot, save
from nextscale.curves.reference import D16


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "run", transformer_lines()))


@pytest.fixture
def tokenizer(tmp_path):
    return read_run(write_run(tmp_path / "tokenizer", tokenizer_lines()))


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def legend(figure) -> list[str]:
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def test_a_panel_for_each_figure_with_its_unit(run, tokenizer):
    assert titles(plot([run])) == [
        "loss (nats)",
        "loss of each scale (nats)",
        "accuracy of each scale (%)",
        "learning rate",
        "gradient norm",
    ]
    assert "PSNR (dB)" in titles(plot([tokenizer])) and "loss" in titles(plot([tokenizer]))


def test_figures_never_heard_of_get_a_panel(tmp_path):
    lines = [{"step": i, "wholly_new": i, "val_other $x": [i, -i], "large": [i] * 40} for i in range(1, 30)]
    figure = plot([read_run(write_run(tmp_path / "a", lines))])
    assert titles(figure)[0] == "wholly new" and len(figure.axes) == 3
    save(figure, tmp_path / "a.png")


def test_runs_laid_over_each_other_are_both_named(run, tokenizer):
    figure = plot([run, tokenizer, replace(run, name="_third $x$")])
    assert legend(figure)[:3] == ["run", "tokenizer", r"_third \$x\$"]
    assert len({line.get_color() for line in figure.axes[0].lines if line.get_linestyle() == "-"}) == 3


def test_scales_are_named_by_size_where_one_run_is_drawn(run):
    assert legend(plot([run]))[-3:] == ["scale 1x1", "scale 2x2", "scale 3x3"]
    assert "coarse is light" in plot([replace(run, sizes=())]).get_suptitle()


def test_a_comparison_is_over_the_images_seen(run):
    runs, reference = comparable([run], D16)
    figure = plot(runs, reference)
    first = figure.axes[0]
    assert first.get_xscale() == "log" and figure.axes[-1].get_xlabel() == "images seen"
    drawn = [np.asarray(line.get_xdata()).tolist() for line in first.lines]
    assert (8 * run.series["loss"].steps).tolist() in drawn
    assert "official d16" in legend(figure)
    assert "V = 64" in figure.get_suptitle() and "divided by ln V" in figure.get_suptitle()


@pytest.mark.parametrize("ending", ["png", "PNG", "svg", "pdf"])
def test_the_file_is_of_its_ending(run, tmp_path, ending):
    path = tmp_path / "new" / f"curves.{ending}"
    save(plot([run]), path)
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert path.read_bytes().startswith(starts[ending.lower()])
    if ending == "png":
        with Image.open(path) as image:
            assert image.width > image.height > 300 and len(image.convert("RGB").getcolors(256) or ()) > 20


def test_without_matplotlib(run, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with refused("matplotlib is not installed", "pip install -c constraints.txt -e '.[plot]'"):
        plot([run])


def test_curves_need_no_torch_and_draw_without_a_screen(run, tmp_path):
    script = f"""
import sys
from pathlib import Path
from nextscale.curves.compare import verdict_line
from nextscale.curves.plot import plot, save
from nextscale.curves.log import read_run
assert "matplotlib" not in sys.modules
save(plot([read_run(Path({str(tmp_path / "run")!r}))]), Path({str(tmp_path / "a.png")!r}))
assert not sys.modules.keys() & {{"torch", "matplotlib.pyplot"}}
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
