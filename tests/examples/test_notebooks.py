"""The notebooks run, and are stored without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parents[1] / "examples").glob("*.ipynb"))
IMAGES = 4
"""Smallest number of images in each notebook."""


def test_all_notebooks_exist():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["edit", "inside", "sample", "text", "train"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(notebook):
    content = json.loads(notebook.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    for cell in content["cells"]:
        fields = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            fields |= {"outputs", "execution_count"}
        assert set(cell) == fields and cell["metadata"] == {}
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_precedes_code(notebook):
    kinds = [cell["cell_type"] for cell in json.loads(notebook.read_text())["cells"]]
    assert kinds[0] == "markdown"
    assert all("markdown" in pair for pair in pairwise(kinds))


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(notebook, tmp_path):
    pytest.importorskip("matplotlib")
    work, shown = tmp_path / "work", tmp_path / "shown"
    work.mkdir()
    shown.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "run_notebook.py", notebook, shown],
        cwd=work,
        env=os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    images = sorted(shown.iterdir())
    assert len(images) >= IMAGES
    for path in images:
        with Image.open(path) as image:
            colours = image.convert("RGB").getcolors(16)
        assert colours is None, f"{path.name} is nearly blank"


def test_a_cell_that_fails_is_named(tmp_path):
    cells = [{"cell_type": "markdown", "source": ["# 1 / 0"]}, {"cell_type": "code", "source": ["x = 0\n", "1 / x"]}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells}))
    done = subprocess.run(
        [sys.executable, HERE / "run_notebook.py", tmp_path / "bad.ipynb", tmp_path], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "bad.ipynb, cell 1" in done.stderr and "ZeroDivisionError" in done.stderr
