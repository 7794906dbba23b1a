"""Points are read correctly from logs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_logs
from tiny import refused
from tiny_ladder import (
    BATCH_SIZE,
    DEPTHS,
    ERROR,
    LAST_ERROR,
    LAST_LOSS,
    LOSS,
    TOKENS,
    VALIDATED,
    config_of,
    power,
    validation_lines,
    write_ladder,
    write_run,
)

from nextscale.analysis.flops import training_flops
from nextscale.scaling_laws.points import check_alike, find_runs, read_points


def test_a_run_gives_its_validations(tmp_path):
    run = read_points(write_run(tmp_path / "d03", 3), "three")
    n = 73_728 * 3**3
    assert (run.name, run.parameters, run.config) == ("three", n, config_of(3))
    assert run.steps.tolist() == list(VALIDATED)
    assert run.images.tolist() == [step * BATCH_SIZE for step in VALIDATED]
    np.testing.assert_allclose(run.compute, run.images * training_flops(config_of(3)) / 1e6)
    ends = {name: values[-1] for name, values in run.measures.items()}
    laws = {"last_scale_loss": LAST_LOSS, "loss": LOSS, "last_scale_error": LAST_ERROR, "error": ERROR}
    assert ends == pytest.approx({name: power(n / 1e9, law) for name, law in laws.items()})


def test_the_error_of_all_scales_weighs_each_token_alike(tmp_path):
    lines = [{"step": 30, "val_loss": 1.0, "val_scale_loss": [1.0, 1.0], "val_scale_accuracy": [0.5, 0.1]}]
    run = read_points(write_run(tmp_path / "run", 2, lines), "run")
    assert run.measures["error"] == pytest.approx([1 - (0.5 * TOKENS[0] + 0.1 * TOKENS[1]) / sum(TOKENS)])
    assert run.measures["last_scale_error"] == pytest.approx([0.9])


def test_runs_are_found_alone_and_in_a_ladder(tmp_path):
    ladder = write_ladder(tmp_path / "ladder")
    (ladder / "notes").mkdir()
    rungs = [ladder / f"d{depth:02d}" for depth in DEPTHS]
    assert find_runs([ladder]) == rungs
    assert find_runs([rungs[2], ladder]) == [rungs[2], rungs[0], rungs[1], rungs[3]]


def test_no_runs(tmp_path):
    (tmp_path / "empty").mkdir()
    with refused("no folder", tmp_path / "nowhere"):
        find_runs([tmp_path / "nowhere"])
    with refused("log.jsonl", tmp_path / "empty"):
        find_runs([tmp_path / "empty"])


def test_runs_that_give_no_points(tmp_path):
    with refused("no transformer"):
        read_points(tiny_logs.write_run(tmp_path / "tokenizer", tiny_logs.tokenizer_lines()), "")
    with refused("no validation", "val/"):
        read_points(write_run(tmp_path / "blind", 2, []), "")
    with refused("step 20 of 30", "repeat its command"):
        read_points(write_run(tmp_path / "half", 2, validation_lines(2, (10, 20))), "")
    lines = validation_lines(2)
    del lines[1]["val_scale_accuracy"]
    with refused("val_last_scale_accuracy"):
        read_points(write_run(tmp_path / "gap", 2, lines), "")
    lines = validation_lines(2)
    lines[-1]["val_scale_loss"][-1] = lines[-1]["val_loss"] = float("nan")
    with refused(tmp_path / "diverged", "loss of the last scale of nan"):
        read_points(write_run(tmp_path / "diverged", 2, lines), "")
    folder = write_run(tmp_path / "cut", 2)
    (folder / "checkpoints" / "step-00000030" / "files.json").unlink()
    with refused("no complete checkpoint"):
        read_points(folder, "")
    folder = write_run(tmp_path / "norecipe", 2)
    (folder / "recipe.json").write_text("[]")
    with refused("recipe.json"):
        read_points(folder, "")
    (folder / "recipe.json").write_text(json.dumps({"inputs": {}, "recipe": {"steps": 30}}))
    with refused("batch_size"):
        read_points(folder, "")


def test_runs_on_other_tokens_are_not_compared(tmp_path):
    ours = read_points(write_run(tmp_path / "a", 2), "a")
    inputs = {"tokenizer": "other", "data": "/cache"}
    with refused("tokenizer abc", "other"):
        check_alike([ours, read_points(write_run(tmp_path / "b", 3, inputs=inputs), "b")])
    inputs = {"tokenizer": "abc", "data": "/elsewhere"}
    with refused("data /cache", "/elsewhere"):
        check_alike([ours, read_points(write_run(tmp_path / "c", 3, inputs=inputs), "c")])
    check_alike([ours, read_points(write_run(tmp_path / "d", 3), "d")])
