"""Read and write JSON and safetensors files, with atomic writes and clear errors for missing or damaged files."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from nextscale.errors import InputError
from nextscale.io.renamed import with_current_names

if TYPE_CHECKING:
    from torch import Tensor


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
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
    """Return the name of the file that `atomic_file` writes first. Threads of a process use different names."""
    return f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp"


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
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
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
        raise InputError(f"cannot create folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} is not writable")
    return folder


def check_folder(folder: Path) -> None:
    """Raise the InputError that `make_folder` would raise, without creating the folder."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot create folder {folder}: {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"folder {nearest} is not writable")


def check_creatable(path: Path) -> None:
    """Raise the InputError that `atomic_file` would raise. Creates a file and deletes it."""
    try:
        check_folder(path.parent)
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        probe = nearest / temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        InputError: the file is missing, truncated, or not a safetensors file.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})") from error


def is_tensor_file(path: Path) -> bool:
    """Return whether the file exists and is a complete safetensors file. Reads only the header."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. If writing fails, the old file is unchanged."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors creates files that only the owner can read
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}") from error
        temporary.chmod(mode)
