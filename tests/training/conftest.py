"""Two finished runs, made by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import add_presets, make_splits, train_command

from nextscale.cli.main import main

add_presets()


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    return make_splits(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def tokenizer_run(images, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("tokenizer")
    main(train_command("tokenizer", images, run))
    return run


@pytest.fixture(scope="session")
def var_run(images, tokenizer_run, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("var")
    main(train_command("var", images, run, "--tokenizer", tokenizer_run))
    return run
