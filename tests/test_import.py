"""The cost of importing, and all public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nextscale as ns

HEAVY = ("torch", "numpy", "PIL", "safetensors", "huggingface_hub", "tensorboard")


def heavy_modules_after(code: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after some code."""
    script = f"{code}\nimport sys\nprint('loaded:', *(sys.modules.keys() & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_importing_loads_nothing_heavy():
    assert heavy_modules_after("import nextscale; nextscale.__version__; dir(nextscale)") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]], ids=str)
def test_help_loads_nothing_heavy(arguments):
    call = f"try: main({arguments!r})\nexcept SystemExit as stop: assert not stop.code"
    assert heavy_modules_after(f"from nextscale.cli.main import main\n{call}") == set()


def test_the_check_above_can_fail():
    assert "torch" in heavy_modules_after("import nextscale; nextscale.VAR")


@pytest.mark.parametrize("name", ns.__all__)
def test_public_names_resolve(name):
    value = getattr(ns, name)
    assert getattr(value, "__name__", name) == name
    assert name in dir(ns)


def test_unknown_names():
    with pytest.raises(AttributeError, match="'nextscale' has no attribute 'VQ'"):
        ns.VQ  # noqa: B018


def test_an_input_error_is_a_value_error():
    assert issubclass(ns.InputError, ValueError)
