"""Read and write JSON files, with atomic writes and clear errors for missing, damaged and unwritable files."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.io.json_text import parse_json
from nextscale.io.renamed import with_current_names

LARGEST_JSON = 2**28
"""Most bytes of a JSON file."""
LONGEST_SHOWN = 200
"""Most characters of a path in a message."""


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: the file is missing, is not JSON, is nested too deeply, or is larger than `LARGEST_JSON`.
    """
    try:
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise InputError(f"{path} has {size:,} bytes: expected JSON of at most {LARGEST_JSON:,}")
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file. If writing fails, the old file is unchanged."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_begun_with(path: Path, record: Mapping[str, Any], what: str, passing: Collection[str] = ()) -> None:
    """Check that unfinished work in a folder was started with the same settings.

    Args:
        path: JSON file with the settings of the unfinished work. If it does not exist, nothing was started.
        record: the settings that the work depends on.
        what: kind of work in the folder, for the message, such as ``a cache``.
        passing: names in the record that may differ.

    Raises:
        InputError: a value in the file differs from that in the record.
    """
    if not path.is_file():
        return
    theirs = with_current_names(read_json(path))
    theirs = theirs if isinstance(theirs, dict) else {}
    for name, value in json.loads(json.dumps(record)).items():
        if name not in passing and theirs.get(name) != value:
            raise InputError(
                f"{path.parent} holds {what} with {name} {theirs.get(name)}, not {value}: "
                "repeat its command to finish it, or choose another folder"
            )


def temporary_name(path: Path) -> str:
    """Return the name of the file that `atomic_file` writes first: short, however long the name of ``path`` is.

    Threads of a process use different names.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return f".{digest}.{os.getpid()}-{threading.get_ident()}.tmp"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary file. It replaces ``path`` when the block ends without an error.

    Raises:
        InputError: the disk is full, or the folder cannot be created or written to.
    """
    temporary = make_folder(path.parent) / temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {brief_path(path)}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> Path:
    """Create a folder if it does not exist, and return it.

    Raises:
        InputError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create folder {brief_path(folder)}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} is not writable")
    return folder


def check_folder(folder: Path) -> None:
    """Raise the InputError that `make_folder` would raise, without creating the folder."""
    nearest = nearest_folder(folder)
    if not nearest.is_dir():
        raise InputError(f"cannot create folder {brief_path(folder)}: {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"folder {nearest} is not writable")


def check_creatable(path: Path) -> None:
    """Raise the InputError that `atomic_file` would raise. Creates a file and deletes it."""
    try:
        check_folder(path.parent)
        nearest = nearest_folder(path.parent)
        (nearest / path.name).exists()  # fails for a name that is too long
        probe = nearest / temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write {brief_path(path)}: {error.strerror or error}") from error


def check_writable_file(path: Path, kind: str = "a file") -> None:
    """Raise InputError if the path names a folder, or if `atomic_file` cannot write to it.

    Args:
        kind: kind of file, for messages, such as ``an image file``.
    """
    check_no_folder(path, kind)
    check_creatable(path)


def check_no_folder(path: Path, kind: str = "a file") -> None:
    """Raise InputError if the path names a folder. See `check_writable_file`."""
    try:
        is_folder = not path.name or path.is_dir()
    except OSError as error:
        raise InputError(f"cannot write {brief_path(path)}: {error.strerror or error}") from error
    if is_folder:
        raise InputError(f"{path} is a folder: expected the name of {kind}")


def nearest_folder(folder: Path) -> Path:
    """Return the folder itself if it exists, else the nearest existing one above it.

    Raises:
        InputError: a name on the way is too long.
    """
    try:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        for name in folder.absolute().relative_to(nearest).parts:
            (nearest / name).exists()
        return nearest
    except OSError as error:
        raise InputError(f"cannot create folder {brief_path(folder)}: {error.strerror or error}") from error


def beside(path: Path, name: str, suffix: str | None = None) -> Path:
    """Return a path next to a file: ``a/samples.png`` -> ``a/samples-NAME.png``.

    Args:
        suffix: another suffix, such as ``.csv``; None keeps that of ``path``.

    Raises:
        InputError: ``path`` has no name, such as ``.`` and ``/``.
    """
    if not path.name:
        raise InputError(f"{path} is a folder: expected the name of a file")
    return path.with_name(f"{path.stem}{name and f'-{name}'}{path.suffix if suffix is None else suffix}")


def brief_path(path: Path) -> str:
    """Return a path for a message: cut if it is very long, with escapes for characters that cannot be printed."""
    text = str(path)
    return text if text.isprintable() and len(text) <= LONGEST_SHOWN else brief(text, LONGEST_SHOWN).strip("'")
