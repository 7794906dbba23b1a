"""Help texts of the command line."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest

import nextscale as ns
from nextscale.cli.main import VERBS, command
from nextscale.cli.parsing import parse


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(call, verb):
    code, out, err = call(*verb.split(), "--help")
    assert code == 0 and not err
    assert "Example" in out and f"nextscale {verb}" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_described(call, verb):
    entry, described = "", {}
    for line in call(*verb.split(), "--help").out.splitlines():
        flag = re.match(r"[│| ] {1,2}(--[a-z][\w-]*)(?:(?! {2}).)*(.*)", line)
        if flag:
            entry, line = flag.groups()
            described[entry] = ""
        if entry:
            described[entry] += line.strip("│| ")
    texts = {flag: re.sub(r"\(required\)|\(default:.*", "", text) for flag, text in described.items()}
    assert texts and not [flag for flag, text in texts.items() if not re.search("[a-z]", text)]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("plot", "scaling fit")])
def test_verbs_with_a_model_have_a_device_a_precision_and_a_seed_where_they_count(call, verb):
    out = call(*verb.split(), "--help").out
    assert "--device" in out
    assert ("--seed" in out) == (verb not in ("reconstruct", "convert", "info"))  # nothing random there
    assert ("--dtype" in out) == (verb not in ("tokenize", "evaluate reference"))  # always computed in float32


def test_help_names_every_verb(call):
    code, out, _ = call("--help")
    assert code == 0
    assert all(f"nextscale {verb}" in out for verb in VERBS)


def test_version(call):
    assert call("--version") == (0, f"{ns.__version__}\n", "")


def test_the_longest_verb_counts(call, monkeypatch):
    monkeypatch.setitem(VERBS, "train", VERBS["info"])
    assert "nextscale train transformer" in call("train", "transformer", "--help").out
    assert "sizes" in call("train", "--help").out


def test_no_verb(call):
    assert call()[0] == 2
    assert call("train")[0] == 2


@pytest.mark.parametrize("arguments", [("draw",), ("train", "something"), ("--frobnicate",)])
def test_unknown_verb(call, arguments):
    code, out, err = call(*arguments)
    assert code == 2 and not out
    assert err.count("\n") == 1 and "expected one of" in err


def test_train_help_names_both_kinds(call):
    code, out, _ = call("train", "--help")
    assert code == 0 and "train tokenizer" in out and "train transformer" in out


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"}
    )


def test_the_module_runs_and_helps_without_torch():
    result = run("-m", "nextscale", "--help")
    assert result.returncode == 0 and "nextscale sample" in result.stdout and not result.stderr
    loaded = run("-c", "import sys, nextscale.cli.main; print('torch' in sys.modules)")
    assert loaded.stdout == "False\n"


def test_whoever_reads_may_leave():
    with subprocess.Popen(
        [sys.executable, "-m", "nextscale", "train", "var", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert not process.stderr.read()
    assert process.returncode == 0


def test_the_module_exits_with_2_on_bad_input(tmp_path):
    result = run("-m", "nextscale", "sample", "--model", str(tmp_path / "missing"), "--out", str(tmp_path / "a.png"))
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.count("\n") == 1 and "missing" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "starts_again"),
    [("train transformer", True), ("train var", True), ("bench train", True), ("sample", False)],
)
def test_training_has_a_process_that_is_started_for_it(monkeypatch, capsys, verb, starts_again):
    started: list[None] = []
    monkeypatch.setattr("nextscale.cli.main.restart_with_less_fragmentation", lambda: started.append(None))
    monkeypatch.setattr("sys.argv", ["nextscale", *verb.split(), "--help"])
    with pytest.raises(SystemExit) as exit:
        command()
    assert exit.value.code == 0 and verb.replace("var", "transformer") in capsys.readouterr().out
    assert bool(started) == starts_again


@pytest.mark.parametrize("verb", VERBS)
def test_no_flags_are_the_defaults_or_a_missing_flag(verb, capsys):
    options = importlib.import_module(VERBS[verb][0]).Options
    try:
        assert isinstance(parse(options, verb, []), options)
    except SystemExit as stop:
        assert stop.code == 2 and "equired" in capsys.readouterr().err
