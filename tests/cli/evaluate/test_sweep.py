"""``nextscale evaluate sweep``."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image
from tiny_evaluation import report


def test_a_sweep(evaluate, call, model):
    assert evaluate("--cfg", 2, "--top-k", 10, out="one").code == 0
    settings = "--cfg 0 2 --top-k 0 10 --per-class 3 --out sweep --reference ref.npz --features classifier"
    command = ("evaluate", "sweep", "--model", model, *settings.split())
    outcome = call(*command)
    assert outcome.code == 0 and outcome.out.count("\n") == 7 and "top-k" in outcome.out
    assert "\n* the best value of its column\n" in outcome.out
    with open("sweep/sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cfg"], row["top_k"], row["top_p"]) for row in rows] == [
        ("0.0", "0", "0.96"),
        ("0.0", "10", "0.96"),
        ("2.0", "0", "0.96"),
        ("2.0", "10", "0.96"),
    ]
    assert float(rows[3]["fid"]) == report("one")["fid"] == report("sweep/cfg-2.0-top-k-10-top-p-0.96")["fid"]
    with Image.open("sweep/sweep.png") as image:
        assert image.width > 600
    assert "sampled" not in call(*command).err
    assert "count 15, not 20" in call(*command, "--per-class", 4).err


def test_a_sweep_over_temperatures(evaluate, call, model):
    assert evaluate("--temperature", 2, out="one").code == 0
    settings = "--temperature 1 2 --per-class 3 --out sweep --reference ref.npz --features classifier"
    outcome = call("evaluate", "sweep", "--model", model, *settings.split())
    assert outcome.code == 0 and "temperature" in outcome.out
    with open("sweep/sweep.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cfg"], row["temperature"]) for row in rows] == [("1.5", "1.0"), ("1.5", "2.0")]
    assert float(rows[1]["fid"]) == report("one")["fid"] and report("one")["settings"]["temperature"] == 2
    assert {path.name for path in Path("sweep").iterdir() if path.is_dir()} == {
        "cfg-1.5-top-k-900-top-p-0.96",
        "cfg-1.5-top-k-900-top-p-0.96-temperature-2.0",
    }
