"""Read and write arrays in .npz files without pickles, and large arrays of images in parts."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.files import atomic_file

IMAGES = "arr_0"
"""The array from which the ADM evaluator reads images."""
LABELS = "arr_1"
"""The array in which the ADM sampler stores their labels."""
CLASS_NAMES = "class_names"
"""The array in which nextscale stores the names of the classes."""

LARGEST_ARRAY = 2**32
"""Most bytes of an array that is read as a whole. A small file may be a large array, compressed."""


@dataclass(frozen=True)
class Header:
    """The shape and type of an array, read before its content."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


def read_headers(path: Path) -> dict[str, Header]:
    """Return the headers of a file's arrays by their names.

    Raises:
        InputError: the file does not exist, is not an .npz file, or contains something other than plain arrays.
    """
    with open_archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        headers = {}
        for name in names:
            with archive.open(f"{name}.npy") as file:
                headers[name] = read_header(file, archive.getinfo(f"{name}.npy").file_size, f"{name} in {path}")
        return headers


def read_array(path: Path, name: str) -> np.ndarray:
    """Read a whole array.

    Raises:
        InputError: the file or the array does not exist, is damaged, or is larger than `LARGEST_ARRAY`.
    """
    header = read_named_header(path, name)
    needed = math.prod(header.shape) * header.dtype.itemsize
    if needed > LARGEST_ARRAY:
        raise InputError(f"{name} in {path} needs {needed:,} bytes: expected at most {LARGEST_ARRAY:,}")
    with open_archive(path) as archive, archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


class ImageArray:
    """The images of a file, uint8 (N, H, W, 3) in ``arr_0``, decompressed on demand.

    Only the requested images are in memory. Reading in order is fast. Reading backwards decompresses from the start.

    Raises:
        InputError: the file has no images.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shape = check_images_array(read_named_header(path, IMAGES), path).shape
        self._file: IO[bytes] | None = None
        self._start = 0

    def read(self, start: int, count: int) -> Tensor:
        """Read ``count`` images, starting at number ``start``: uint8 (count, 3, H, W).

        Raises:
            InputError: the file is truncated or damaged.
        """
        _, h, w, channels = self.shape
        with explained(self.path):
            if self._file is None:
                with zipfile.ZipFile(self.path) as archive:  # its file stays open until the array is closed
                    self._file = archive.open(f"{IMAGES}.npy")
                read_header(self._file, archive.getinfo(f"{IMAGES}.npy").file_size, f"{IMAGES} in {self.path}")
                self._start = self._file.tell()
            place = self._start + start * h * w * channels
            if self._file.tell() != place:
                self._file.seek(place)
            data = bytearray(self._file.read(count * h * w * channels))
            pixels = np.frombuffer(data, np.uint8).reshape(count, h, w, channels)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()


def write_images(
    path: Path,
    parts: Iterable[Tensor],
    shape: tuple[int, int, int],
    labels: Tensor | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Write images for the ADM evaluator, one part at a time.

    Args:
        parts: parts of the images, each uint8 (B, 3, H, W).
        shape: (N, H, W) of all images.
        labels: (N,), to store in ``arr_1``.
        class_names: names of the classes, stored if there are labels.

    Raises:
        InputError: there are fewer or more than N images, or the file cannot be written.
    """
    left = shape[0]
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open(f"{IMAGES}.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (*shape, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                file.write(part.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes())
                left -= len(part)
        if left:
            raise InputError(f"cannot write {path}: got {shape[0] - left} of {shape[0]} images")
        if labels is not None:
            for name, array in ((LABELS, labels.cpu().numpy()), (CLASS_NAMES, np.array(class_names, dtype=np.str_))):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)


def check_images_array(header: Header, path: Path) -> Header:
    """Return the header of an array. Raise InputError unless it is uint8 (N, H, W, 3) with N at least 1."""
    shape = header.shape
    if header.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not math.prod(shape) or header.fortran:
        order = " in Fortran order" if header.fortran else ""
        raise InputError(
            f"{IMAGES} in {path} is {header.dtype} of shape {shape}{order}: expected images, uint8 (N, H, W, 3)"
        )
    return header


def read_named_header(path: Path, name: str) -> Header:
    """Return the header of an array by name. Raise InputError if it does not exist."""
    headers = read_headers(path)
    if name not in headers:
        raise InputError(f"{path} has no {name}: it holds {', '.join(headers) or 'no arrays'}")
    return headers[name]


def read_header(file: IO[bytes], size: int, name: str) -> Header:
    """Read the header of an array in the .npy format. The file position is then at the first number of the array.

    Args:
        file: the file, positioned at its start.
        size: size of the file in bytes.
        name: name of the array in messages.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise InputError(f"{name} is of format {version[0]}.{version[1]}: expected 1.0 or 2.0, a plain array")
    if dtype.hasobject:
        raise InputError(f"{name} holds Python objects (a pickle that could run code): refused")
    if any(side < 0 for side in shape):
        raise InputError(f"{name} is of shape {shape}: expected no negative side")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InputError(f"{name} has {size} bytes, but its shape {shape} of {dtype} needs {expected}")
    return Header(shape, dtype, fortran)


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file. Convert every error in the block to InputError."""
    with explained(path), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Context manager that converts errors of a damaged .npz file to InputError."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is damaged or not an .npz file ({error})") from error
