"""Import packages of the optional extras of nextscale, and report in one sentence why an import failed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from nextscale.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
"""The folder of the clone, if nextscale runs from one."""


@contextmanager
def needed(package: str, extra: str) -> Iterator[None]:
    """Context manager around the import of a package that belongs to an extra.

    Raises:
        InputError: the import failed. The message tells a missing package from one that does not work.
    """
    try:
        yield
    except Exception as error:  # broken packages raise ImportError, AttributeError, OSError, ValueError and others
        raise InputError(import_failure(error, package, extra)) from error


def check_installed(package: str, extra: str) -> None:
    """Check that a package of an extra is installed, without importing it.

    Raises:
        InputError: the package is not installed.
    """
    if find_spec(package) is None:
        raise InputError(not_installed(package, extra))


def import_failure(error: Exception, package: str, extra: str) -> str:
    """Return one sentence that explains why a package could not be imported.

    Args:
        error: raised by the import.
        extra: the extra of nextscale that installs the package.
    """
    absent = isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] == package
    if absent and find_spec(package) is None:
        return not_installed(package, extra)
    reason = " ".join(str(error).split()) or "no reason given"
    return f"{package} is installed, but importing it failed ({type(error).__name__}: {reason})"


def not_installed(package: str, extra: str) -> str:
    """Return one sentence with the command that installs a missing package.

    If nextscale runs from a clone, the command installs the extra from there. Otherwise it installs the packages of the
    extra by name.
    """
    if not all((ROOT / name).is_file() for name in ("pyproject.toml", "constraints.txt")):
        return f"{package} is not installed: run {pip()} install {shlex.join(requirements(extra) or [package])}"
    advice = f"run {pip()} install -c constraints.txt -e '.[{extra}]' in {ROOT}"
    server = ", or make serve, which also starts the server" if extra == "serve" else ""
    return f"{package} is not installed: {advice}{server}"


def pip() -> str:
    """Return the command of the pip that installs into the running environment."""
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip"
    return f"{shlex.quote(sys.executable)} -m pip"


def requirements(extra: str) -> list[str]:
    """Return the requirements of an extra, such as ``["matplotlib>=3.8"]``; none if nextscale has no metadata."""
    try:
        lines = [line.partition(";") for line in metadata.requires("nextscale") or ()]
    except metadata.PackageNotFoundError:
        return []
    return [name.strip() for name, _, marker in lines if f"extra == '{extra}'" in marker.replace('"', "'")]
