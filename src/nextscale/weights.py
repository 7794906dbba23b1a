"""A folder with ``config.json`` and ``model.safetensors`` <-> a module.

A training run is such a folder too: its newest checkpoint holds the two files.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextscale.errors import InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CHECKPOINTS = "checkpoints"

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class _Builder(Protocol[ModuleT]):
    def __call__(self, config: Any, /) -> ModuleT: ...


def as_config(kind: type[ConfigT], value: ConfigT | Mapping[str, Any]) -> ConfigT:
    """A config dataclass from itself or from what JSON made of it; unknown keys are an error."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{kind.__name__} is written as an object with named fields, not {value!r}")
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(value) - names:
        raise InputError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}; it has {', '.join(sorted(names))}")
    try:
        return kind(**value)
    except TypeError as error:
        raise InputError(f"{kind.__name__} cannot be made from {dict(value)!r}: {error}") from error


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


class atomic_file:
    """``with atomic_file(path) as temporary:`` write ``temporary``; it takes the place of ``path`` on success."""

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        make_folder(self.path.parent)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if kind is None:
                os.replace(self.temporary, self.path)
        except OSError as failure:
            raise InputError(f"cannot write {self.path}: {failure.strerror}") from failure
        finally:
            self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        InputError: no such file, or a file that is truncated or not safetensors.
    """
    if not path.is_file():
        raise InputError(f"no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    with atomic_file(path) as temporary:
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}") from error


def fill(module: ModuleT, state: Mapping[str, Tensor], source: object) -> ModuleT:
    """Give a module the tensors of ``state``, as they are (a module on the meta device becomes real).

    Raises:
        InputError: missing or unknown names, or another shape.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            raise InputError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, but the configuration expects {tuple(tensor.shape)}"
            )
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unknown:
        parts = [
            f"{len(names)} {what} (first: {min(names)})" for names, what in ((missing, "missing"), (unknown, "unknown")) if names
        ]
        raise InputError(f"{source} does not hold the weights of this {type(module).__name__}: tensors {' and '.join(parts)}")
    module.load_state_dict(dict(state), assign=True)
    return module


def newest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint folder of a training run, if there is one."""
    steps = sorted(folder for folder in (run / CHECKPOINTS).glob("step-*") if (folder / WEIGHTS).is_file())
    return steps[-1] if steps else None


def is_module_folder(folder: Path) -> bool:
    """Whether `load_module` would find something here."""
    return (folder / CONFIG).is_file() or newest_checkpoint(folder) is not None


def load_module(folder: str | Path, config_kind: type[ConfigT], build: _Builder[ModuleT]) -> ModuleT:
    """Build a module from a folder, in float32 whatever the file's precision, ready for use (eval mode)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    if not (folder / CONFIG).is_file():
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            raise InputError(f"{folder} has neither a {CONFIG} nor a checkpoint")
        folder = checkpoint
    config = as_config(config_kind, read_json(folder / CONFIG))
    with torch.device("meta"):
        module = build(config)
    state = {name: tensor.float() for name, tensor in read_tensors(folder / WEIGHTS).items()}
    return fill(module, state, folder / WEIGHTS).eval()


def save_module(folder: str | Path, config: Any, module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``; ``dtype`` stores the weights in less precision."""
    folder = make_folder(Path(folder))
    write_tensors(folder / WEIGHTS, {name: t.to(dtype or t.dtype) for name, t in module.state_dict().items()})
    write_json(folder / CONFIG, dataclasses.asdict(config))
