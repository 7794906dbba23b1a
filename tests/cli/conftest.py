"""Call the command line in this process, in a folder with a small model and images."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny import SCHEDULES, make_tokenizer, make_var
from tiny_runs import add_presets, make_images, make_splits

import nextscale as ns
from nextscale.cli.main import main

add_presets()
CLASSES = ("Ankle boot", "dress", "hat", "shirt", "shoes")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """``command`` changes what Ctrl-C does in the process; afterwards it ends the tests again."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def call(capsys) -> Call:
    """``call("sample", "--cfg", 4)`` -> (exit code, standard output, standard error)."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A folder with a pipeline that makes images of 8 x 8 pixels in 4 scales."""
    folder = tmp_path_factory.mktemp("model")
    schedule = SCHEDULES["square"]
    ns.Pipeline(make_tokenizer(schedule), make_var(schedule), CLASSES).save_pretrained(folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The current folder, with a photo and a folder of training images."""
    make_images(tmp_path / "photos", 2)
    make_splits(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path
