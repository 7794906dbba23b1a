"""Two finished runs, made by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import add_presets, make_splits, train_command

from nextscale.cli.main import main

add_presets()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    return make_splits(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def tokenizer_run(pictures, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("tokenizer")
    main(train_command("tokenizer", pictures, run))
    return run


@pytest.fixture(scope="session")
def var_run(pictures, tokenizer_run, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("var")
    main(train_command("var", pictures, run, "--tokenizer", tokenizer_run))
    return run
