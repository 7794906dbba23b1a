"""Files, read with a clear word when they are missing or damaged, and written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from nextscale.errors import InputError
from nextscale.io.renamed import with_current_names

if TYPE_CHECKING:
    from torch import Tensor


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is either the old one or the new one, never half."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_begun_with(path: Path, record: Mapping[str, Any], what: str, passing: Collection[str] = ()) -> None:
    """Raises InputError if a JSON file says that the work beside it was begun with something else.

    Args:
        path: of the file; if it is not there, nothing was begun.
        record: what the work depends on.
        what: lies in the folder, such as ``a cache``.
        passing: names in the record that may change.
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


def stamp(paths: Iterable[str | Path]) -> str:
    """16 hexadecimal digits that are others as soon as one of the files is written, renamed, added or taken away.

    By names, sizes and times: no file is opened. Where the folder lies that holds them all makes no difference.
    """
    names = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(name)
            is_now = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            is_now = "missing"
        digest.update(f"{os.path.relpath(name, root)}\0{is_now}\n".encode())
    return digest.hexdigest()[:16]


def temporary_name(path: Path) -> str:
    """Of the file that `atomic_file` writes to begin with."""
    return f".{path.name}.{os.getpid()}.tmp"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """``with atomic_file(path) as temporary:`` write ``temporary``; it takes the place of ``path`` on success.

    Raises:
        InputError: the disk is full, or the folder cannot be made or written to.
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
    """The folder, made if need be.

    Raises:
        InputError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} is not writable")
    return folder


def check_folder(folder: Path) -> None:
    """Raises InputError now if `make_folder` could not make the folder later."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot make folder {folder}: {nearest} is a file")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"folder {nearest} is not writable")


def check_creatable(path: Path) -> None:
    """Raises InputError now if `atomic_file` could not make the file later. Makes one, and takes it away again."""
    try:
        check_folder(path.parent)
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        probe = nearest / temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        InputError: no such file, or a file that is truncated or not safetensors.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error})") from error


def is_tensor_file(path: Path) -> bool:
    """Whether `read_tensors` would read a file: it is there, and not cut short. Its tensors are not looked at."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors writes files that only their owner may read
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}") from error
        temporary.chmod(mode)
