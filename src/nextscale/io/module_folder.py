"""Save a module to a folder as ``config.json`` and ``model.safetensors``, and load it again.

A training run can also be loaded. Its newest checkpoint contains the two files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nextscale.errors import InputError
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.config import as_config, as_record
from nextscale.io.files import make_folder, read_json, write_json
from nextscale.io.tensor_files import Header, read_headers, read_tensors, write_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fill(module: ModuleT, state: Mapping[str, Tensor], source: object) -> ModuleT:
    """Assign the tensors of ``state`` to a module, without a copy, and return the module.

    A module on the meta device becomes a real one.

    Args:
        source: the file of ``state``, for messages.

    Raises:
        InputError: a name is missing or unknown, or a shape or a kind of numbers differs.
    """
    check_fits(module, headers_of(state), source)
    module.load_state_dict(dict(state), assign=True)
    return module


def headers_of(state: Mapping[str, Tensor]) -> dict[str, Header]:
    """Return the shapes and types of tensors."""
    return {name: Header(tuple(tensor.shape), dtype_name(tensor)) for name, tensor in state.items()}


def check_fits(module: nn.Module, headers: Mapping[str, Header], source: object) -> None:
    """Check that tensors with these names, shapes and types can be the state of a module.

    Args:
        source: the file of the tensors, for messages.

    Raises:
        InputError: a name is missing or unknown, a shape differs, or floating-point numbers are expected and others
            are found, or the reverse.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name in headers and headers[name].shape != tuple(tensor.shape):
            raise InputError(
                f"{source}: {name} has shape {headers[name].shape}, but the configuration expects {tuple(tensor.shape)}"
            )
    kind = f"the {len(expected)} tensors of this {type(module).__name__}"
    if missing := expected.keys() - headers.keys():
        raise InputError(f"{source} lacks {len(missing)} of {kind} (first: {min(missing)})")
    if unknown := headers.keys() - expected.keys():
        raise InputError(f"{source} has {len(unknown)} tensors besides {kind} (first: {min(unknown)})")
    check_types(expected, headers, source)


def check_types(expected: Mapping[str, Tensor], headers: Mapping[str, Header], source: object) -> None:
    """Raise InputError if a stored tensor has floating-point numbers where others are expected, or the reverse.

    Names that only one side has are skipped. See `check_fits`.
    """
    for name in sorted(expected.keys() & headers.keys()):
        ours, theirs = dtype_name(expected[name]), headers[name].dtype
        if is_float(ours) != is_float(theirs) or (not is_float(ours) and ours != theirs):
            wanted = "floating-point numbers" if is_float(ours) else ours
            raise InputError(f"{source}: {name} is of type {theirs}, expected {wanted}")


def dtype_name(tensor: Tensor) -> str:
    """Return the name of a tensor's type, such as ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def is_float(dtype: str) -> bool:
    """Return whether a type is one of floating-point numbers, from its name."""
    return dtype.startswith(("float", "bfloat"))


def read_config(kind: type[ConfigT], path: Path) -> ConfigT:
    """Read a config dataclass from a JSON file.

    Raises:
        InputError: the file is missing or damaged, or its values are no such config.
    """
    content = read_json(path)
    try:
        return as_config(kind, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def most_parameters(tensors: Collection[str]) -> int:
    """Return how many parameters to build, at most, for stored tensors: enough for a message that compares the two."""
    return 10 * len(tensors) + 1000


def build_on_meta(build: Callable[[ConfigT], ModuleT], config: ConfigT, most: int, source: object) -> ModuleT:
    """Build a module on the meta device, without memory for its weights.

    Args:
        most: the largest number of parameters.
        source: the file of the configuration, for messages.

    Raises:
        InputError: the module has more parameters, or sizes that no tensor can have.
    """
    try:
        with torch.device("meta"), limited_parameters(most):
            return build(config)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{source}: the sizes are too large ({str(error).splitlines()[0][:200]})") from error


@contextmanager
def limited_parameters(most: int) -> Iterator[None]:
    """Context manager that raises InputError when this thread has built modules with more than ``most`` parameters."""
    thread, count = threading.get_ident(), 0

    def check(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > most:
            raise InputError(f"the configuration describes more than {most:,} tensors, many more than the weights have")

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()


def check_no_run(folder: Path) -> Path:
    """Create a folder if it does not exist, and return it.

    Raises:
        InputError: the folder contains a training run, whose checkpoints would hide the new weights.
    """
    if newest_checkpoint(folder):
        raise InputError(f"{folder} holds a training run: choose another folder")
    return make_folder(folder)


def is_module_folder(folder: Path) -> bool:
    """Return whether the folder holds a module or a training run for `load_module`."""
    return (folder / CONFIG).is_file() or newest_checkpoint(folder) is not None


def load_module(
    folder: str | Path, config_kind: type[ConfigT], build: Callable[[ConfigT], ModuleT], as_stored: bool = False
) -> ModuleT:
    """Load a module from a folder, in eval mode.

    Names, shapes and types are compared with the header of the weights before memory is allocated.

    Args:
        as_stored: keep the type of floating-point weights, which then stay memory-mapped, instead of converting them to
            float32.

    Raises:
        InputError: the folder does not exist, or a file in it is missing, damaged or unsuitable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    folder = newest_checkpoint(folder) or folder
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has neither a {CONFIG} nor a checkpoint")
    config = read_config(config_kind, folder / CONFIG)
    headers = read_headers(folder / WEIGHTS)
    module = build_on_meta(build, config, most_parameters(headers), folder / CONFIG)
    check_fits(module, headers, folder / WEIGHTS)
    stored = read_tensors(folder / WEIGHTS)
    state = stored if as_stored else {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
    return fill(module, state, folder / WEIGHTS).eval()


def save_module(folder: str | Path, config: Any, module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``.

    Args:
        dtype: type of the stored weights; None keeps that of the module.

    Raises:
        InputError: the folder is not writable, or holds a training run.
    """
    folder = check_no_run(Path(folder))
    write_tensors(folder / WEIGHTS, {name: t.to(dtype or t.dtype) for name, t in module.state_dict().items()})
    write_json(folder / CONFIG, as_record(config))
