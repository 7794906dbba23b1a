"""Read and write safetensors files, with their headers separately."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError

from nextscale.errors import InputError
from nextscale.io.files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

TYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""Names of types in safetensors files, and their names in PyTorch."""


class Header(NamedTuple):
    """The shape of a stored tensor, and PyTorch's name of its type, such as ``float32``."""

    shape: tuple[int, ...]
    dtype: str


def read_headers(path: Path) -> dict[str, Header]:
    """Return the shapes and types of the tensors in a safetensors file. No tensor is read.

    Raises:
        InputError: the file is missing, truncated, or not a safetensors file.
    """
    from safetensors import safe_open

    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            kinds = {name: str(part.get_dtype()) for name, part in parts.items()}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            return {name: Header(shapes[name], TYPES.get(kind, kind)) for name, kind in kinds.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        InputError: the file is missing, truncated, or not a safetensors file.
    """
    from safetensors.torch import load_file

    check_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error})") from error


def check_file(path: Path) -> None:
    """Raise InputError unless the file exists."""
    if not path.is_file():
        raise InputError(f"no file {path}")


def is_tensor_file(path: Path) -> bool:
    """Return whether the file exists and is a complete safetensors file. Reads only the header."""
    try:
        read_headers(path)
        return True
    except InputError:
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
