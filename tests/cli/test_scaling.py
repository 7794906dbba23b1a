"""``nextscale scaling run`` and ``nextscale scaling fit``."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_logs
from PIL import Image
from tiny_ladder import config_of, validation_lines, write_ladder, write_run
from tiny_runs import TRANSFORMER

from nextscale.cli import train_transformer
from nextscale.cli.parsing import parse
from nextscale.cli.scaling_run import Options, arguments, base_recipe, plan_rung
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
from nextscale.io.lock import locked
from nextscale.scaling_laws.ladder import Rung

RUN = ("scaling", "run", "--data", "cache", "--out", "ladder", "--preset", "tiny.json", "--device", "cpu")
SMALL = ("--depths", "1", "2", "3", "--width-per-depth", "8", "--steps", "6", "--validate-every", "2")


@pytest.fixture
def cache(call, place, model) -> Path:
    """The current folder, with a cache of tokens and a recipe in a file."""
    tokenize = ("tokenize", "--data", "data", "--tokenizer", model, "--out", "cache")
    assert call(*tokenize).code == 0
    (place / "tiny.json").write_text(json.dumps(dataclasses.asdict(TRANSFORMER)))
    return place


def steps_done(rung: str) -> int:
    newest = newest_checkpoint(Path("ladder") / rung)
    return checkpoint_step(newest) if newest else 0


@pytest.mark.slow
def test_a_ladder_from_nothing_to_its_laws(call, cache, monkeypatch):
    code, out, err = call(*RUN, *SMALL, "--parallel", "2")
    assert code == 0 and out.split() == ["ladder/d01", "ladder/d02", "ladder/d03"]
    assert "d02  width 16, 9.22 k parameters, 24 images" in err and "d03  step 6/6" in err
    recipes = [json.loads(Path(f"ladder/d0{d}/recipe.json").read_text())["recipe"] for d in (1, 2, 3)]
    assert [(r["depth"], r["width"], r["heads"]) for r in recipes] == [(1, 8, 1), (2, 16, 2), (3, 24, 3)]
    assert len({(r["steps"], r["batch_size"], r["seed"]) for r in recipes}) == 1
    code, out, err = call("scaling", "fit", "ladder", "--out", "new/laws.png", "--resamples", "20")
    assert code == 0 and not err and "3 runs, 1.15 k to 31.1 k parameters" in out
    written = ["new/laws.png", "new/laws-compute.png", "new/laws.csv", "new/laws.json"]
    assert out.split()[-4:] == written and all(Path(name).is_file() for name in written)
    rows = Path("new/laws.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 3
    before = Path("ladder/d03/log.jsonl").stat().st_mtime_ns
    for fast in (True, False):  # wherever it goes on, in the precision that it began in
        monkeypatch.setattr("nextscale.training.recipes.has_fast_bfloat16", lambda device, fast=fast: fast)
        assert call(*RUN, *SMALL).code == 0
    assert Path("ladder/d03/log.jsonl").stat().st_mtime_ns == before
    code, _, err = call(*RUN, *SMALL, "--seed", "3")
    assert code == 2 and "seed 0, not 3" in err


@pytest.mark.long
def test_a_ladder_that_was_stopped_goes_on(cache):
    command = [sys.executable, "-m", "nextscale", *RUN, "--depths", "2", "--width-per-depth", "8", "--save-every", "50"]
    command += ["--steps", "4000", "--log-every", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr and any("d02  step 3/" in line for line in started.stderr)
        started.send_signal(signal.SIGTERM)
        rest = started.stderr.read()
    assert started.returncode == 0 and "d02  stopped: saved at step" in rest
    assert rest.endswith("stopped: repeat the same command to resume\n")
    done = steps_done("d02")
    assert 3 <= done < 4000

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr and any(f"d02  resuming ladder/d02 at step {done}" in line for line in again.stderr)
        again.kill()  # the training keeps the lock until it notices that nobody listens
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with locked(Path("ladder")):
                break
        except ValueError:
            time.sleep(0.1)
    else:
        pytest.fail("the lock is held for ever")


@pytest.mark.long
@pytest.mark.slow
def test_ctrl_c_in_a_terminal_saves_the_running_sizes(cache):
    command = [sys.executable, "-m", "nextscale", *RUN, "--depths", "2", "--width-per-depth", "8", "--save-every", "0"]
    with subprocess.Popen(
        [*command, "--steps", "100000", "--log-every", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:
        assert started.stderr and any("d02  step 3/" in line for line in started.stderr)
        os.killpg(started.pid, signal.SIGINT)
        rest = started.stderr.read()
    assert started.returncode == 130 and "Traceback" not in rest and steps_done("d02") >= 3
    assert "\nCtrl-C: waiting until the running jobs have saved; press Ctrl-C again" in f"\n{rest}"
    assert "d02  Ctrl-C: saving a checkpoint after this step" in rest and "d02  stopped: saved at step" in rest
    assert rest.endswith("stopped: repeat the same command to resume\n")


def test_a_recipe_that_is_none_starts_nothing(call, cache):
    code, out, err = call(*RUN, *SMALL, "--set", "eps=1e-3", "schedule=lin5")
    assert code == 2 and not out
    assert err.splitlines()[-1].startswith("nextscale: ") and "lin5" in err
    assert not Path("ladder").exists()


def test_two_commands_at_once(call, cache):
    with locked(Path("ladder")):
        code, _, err = call(*RUN, *SMALL)
    assert code == 2 and "another command is writing to ladder" in err


def test_flags_become_those_of_train_transformer():
    options = Options(data=Path("c"), out=Path("o"), steps=7, set=("flip=false",), learning_rate=1e-3, preset="cifar10")
    base, rung = base_recipe(options), Rung(2, 64)
    said = arguments(options, rung, base)
    assert said[said.index("--steps") + 1] == "7"
    where = said.index("--set")
    assert said[where + 1 : where + 5] == ["flip=false", "depth=2", "width=64", "heads=2"]
    assert said[said.index("--learning-rate") + 1] == str(1e-3 * (256 / 64) ** 0.5)
    assert "--out=o/d02" in said and "--dtype" not in said
    recipe, _ = plan_rung(options, rung, base)
    assert (recipe.depth, recipe.width, recipe.heads, recipe.flip) == (2, 64, 2, False)
    assert recipe.learning_rate == 1e-3 * (256 / 64) ** 0.5


def test_names_may_begin_with_a_dash():
    options = Options(data=Path("-c"), out=Path("-o"), preset="starter")
    given = arguments(replace(options, preset="-r.json"), Rung(1, 8), base_recipe(options))
    parsed = parse(train_transformer.Options, "train transformer", given[2:])
    assert (parsed.data, parsed.out, parsed.preset) == ("-c", Path("-o/d01"), "-r.json")


@pytest.mark.parametrize(
    ("more", "word"),
    {
        ("--data", "data"): "data is not a token cache",
        ("--data", "nowhere"): "nowhere is not a token cache",
        ("--out", "cache/ladder"): "must not lie in the data",
        ("--out", "photos/0.png"): "photos/0.png",
        ("--out", "."): "must not lie in the ladder",
        ("--depths", "0", "1"): "depths",
        ("--depths", "2", "2"): "differ",
        ("--width-per-depth", "0"): "width_per_depth",
        ("--preset", "huge"): "huge",
        ("--set", "depth=3"): "depth cannot be changed by --set",
        ("--set", "colour=3"): "colour",
        ("--steps", "0"): "steps",
        ("--batch-size", "99"): "99",
        ("--rate-power", "nan"): "learning_rate",
        ("--parallel", "-1"): "parallel",
        ("--seed", "-1"): "seed",
        ("--dtype", "float16"): "float16",
        ("--device", "tpu"): "tpu",
    }.items(),
    ids=str,
)
def test_bad_ladders(call, cache, more, word):
    code, out, err = call(*RUN, *SMALL, *more)
    assert code == 2 and not out
    assert err.count("\n") == 1 and word in err, err
    assert not Path("ladder").exists() and not Path("cache/ladder").exists()


def test_a_cache_without_validation(call, cache, model):
    tokenize = ("tokenize", "--data", "photos", "--tokenizer", model, "--out", "blind", "--val-fraction", 0)
    assert call(*tokenize).code == 0
    code, _, err = call(*RUN, *SMALL, "--batch-size", "2", "--data", "blind")
    assert code == 2 and "blind has no validation images" in err


@pytest.fixture
def ladders(tmp_path, monkeypatch) -> Path:
    """The current folder, with ladders that never were trained."""
    write_ladder(tmp_path / "ladder")
    write_ladder(tmp_path / "two", (2, 3))
    tiny_logs.write_run(tmp_path / "tokenizer", tiny_logs.tokenizer_lines())
    write_run(tmp_path / "half", 5, validation_lines(5, (10, 20)))
    write_run(tmp_path / "blind", 5, [])
    write_run(tmp_path / "other", 5, inputs={"tokenizer": "xyz", "data": "/cache"})
    wide = dataclasses.replace(config_of(5), schedule=config_of(5).schedule.square((2, 2)))
    write_run(tmp_path / "scales", 5, config=wide)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_fit(call, ladders):
    code, out, err = call("scaling", "fit", "ladder", "--out", "laws.svg", "--resamples", "50")
    assert code == 0 and not err
    assert out.split()[-4:] == ["laws.svg", "laws-compute.svg", "laws.csv", "laws.json"]
    assert "-0.2300" in out and "d04" in out
    assert Path("laws.svg").read_text().count("Pearson") >= 4
    assert call("scaling", "fit", "two", "ladder/d01", "ladder/d04", "--resamples", "50").code == 0
    with Image.open("scaling.png") as image:
        assert image.width > 800


@pytest.mark.parametrize(
    ("command", "word"),
    {
        "": "at least one run",
        "nowhere": "nowhere",
        "empty": "log.jsonl",
        "two": "at least 3 sizes",
        "ladder tokenizer": "no transformer",
        "ladder half": "step 20 of 30",
        "ladder blind": "no validation",
        "ladder other": "tokenizer",
        "ladder scales": "schedule",
        "ladder --out a.xyz": ".png, .svg, .pdf",
        "ladder --out folder.png": "folder",
        "ladder --out file/a.png": "file",
        "ladder --resamples 0": "resamples",
        "ladder --level 1": "level",
        "ladder --seed -1": "seed",
        "ladder --compute-from 1e9": "from 1e+09 on",
    }.items(),
)
def test_bad_fits(call, ladders, command, word):
    before = sorted(ladders.rglob("*"))
    code, out, err = call("scaling", "fit", *command.split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and "Traceback" not in err and word in err
    assert sorted(ladders.rglob("*")) == before
