"""Messages tell a missing package from a broken one, at every import of an optional package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from tiny import refused

import nextscale as ns
from nextscale.cli.serve import NEEDED, Options, run
from nextscale.curves.plot import check_out, empty_figure
from nextscale.data.huggingface import load
from nextscale.runtime import extras
from nextscale.runtime.extras import check_installed, import_failure, needed, not_installed

BROKEN = {
    "raise ImportError('pyarrow requires NumPy 2.0 or newer')": "ImportError: pyarrow requires NumPy 2.0 or newer",
    "import no_such_dependency": "ModuleNotFoundError: No module named 'no_such_dependency'",
    "raise ValueError('dtype size changed,\\nmay indicate')": "ValueError: dtype size changed, may indicate",
    "raise OSError('libgomp.so.1: cannot open shared object file')": "OSError: libgomp.so.1: cannot open",
    "import sys; sys.nothing": "AttributeError: module 'sys' has no attribute 'nothing'",
}


def serve() -> None:
    run(Options(port=0))


USES: dict[str, tuple[Callable[[], object], str]] = {
    "matplotlib": (lambda: empty_figure((1, 1)), "plot"),
    "datasets": (lambda: load("hf:owner/name"), "hf"),
    **dict.fromkeys(NEEDED, (serve, "serve")),
}


@pytest.fixture
def put(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Return a function (package, code) that puts a package of this code in the place of the installed one."""

    def put(package: str, code: str) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        (tmp_path / f"{package}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return put


@pytest.mark.parametrize("package", USES)
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    use, extra = USES[package]
    with pytest.raises(ns.InputError) as caught:
        use()
    assert str(caught.value) == not_installed(package, extra) and f"-e '.[{extra}]'" in str(caught.value)


@pytest.mark.parametrize("code", BROKEN)
@pytest.mark.parametrize("package", USES)
def test_a_broken_package_is_reported_as_what_it_is(package, code, put):
    put(package, code)
    with pytest.raises(ns.InputError) as caught:
        USES[package][0]()
    sentence = str(caught.value)
    assert sentence.startswith(f"{package} is installed, but importing it failed ({BROKEN[code]}")
    assert "pip install" not in sentence and "\n" not in sentence


def test_a_package_of_an_old_layout_is_not_missing(put):
    put("datasets", "load_from_disk = None")
    with refused("datasets is installed, but importing it failed (ImportError: cannot import name 'load_dataset'"):
        load("hf:owner/name")


@pytest.mark.parametrize("code", ["import no_such_dependency", "raise OSError('libgomp.so.1: cannot open')"])
def test_a_broken_diffusers(code, tmp_path):
    (tmp_path / "diffusers.py").write_text(code)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import nextscale.integrations.diffusers"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "ImportError: diffusers is installed, but importing it failed (" in done.stderr.splitlines()[-1]
    assert "pip install" not in done.stderr


def test_ctrl_c_during_an_import_is_not_an_import_failure():
    with pytest.raises(KeyboardInterrupt), needed("matplotlib", "plot"):
        raise KeyboardInterrupt


def test_plots_are_checked_before_long_work(tmp_path, put):
    put("matplotlib", "import no_such_dependency")
    with refused("matplotlib", "no_such_dependency"):
        check_out(tmp_path / "curves.png")


def test_is_installed():
    check_installed("nextscale", "serve")
    with refused("no_such_package is not installed"):
        check_installed("no_such_package", "serve")


def test_an_exception_without_words():
    assert "(ImportError: no reason given)" in import_failure(ImportError(), "a", "plot")


def test_outside_of_a_clone_the_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "ROOT", tmp_path)
    assert re.search(r"pip install 'matplotlib>=\S+'$", not_installed("matplotlib", "plot"))
    line = not_installed("gradio", "serve")
    assert re.search(r"pip install ('\S+>=\S+' ?){6,}$", line) and " 'fastapi>=" in line and " 'gradio>=" in line

    def absent(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", absent)
    assert not_installed("matplotlib", "plot").endswith("pip install matplotlib")


def test_the_line_installs_into_the_running_environment(tmp_path, monkeypatch):
    (tmp_path / "pip").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"run {sys.executable} -m pip install" in not_installed("matplotlib", "plot")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "run pip install" in not_installed("matplotlib", "plot")


def guarded_imports(source: str) -> list[str]:
    """Return the modules that a file imports in a ``try`` that catches import errors."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Try):
            continue
        caught = {name.id for h in node.handlers for name in ast.walk(h.type or h) if isinstance(name, ast.Name)}
        if caught & {"ImportError", "ModuleNotFoundError"}:
            for line in node.body:
                found += [alias.name for alias in line.names] if isinstance(line, ast.Import) else []
                found += [str(line.module)] if isinstance(line, ast.ImportFrom) else []
    return found


def test_no_module_guards_the_import_of_a_package_in_its_own_way():
    sources = [path.read_text() for path in Path(ns.__file__).parent.rglob("*.py")]
    guarded = {name.split(".")[0] for source in sources for name in guarded_imports(source)}
    assert "fcntl" in guarded, "on Windows"
    assert guarded <= sys.stdlib_module_names


def test_a_guard_is_found():
    assert guarded_imports("try:\n    from a.b import c\nexcept (OSError, ImportError):\n    c = None") == ["a.b"]
