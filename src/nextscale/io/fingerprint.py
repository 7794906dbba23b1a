"""Fingerprints of weights and files. Their values must not change: caches, runs, reports and images store them."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

DIGITS = 16
"""Number of hexadecimal digits of a fingerprint, the first digits of a SHA-256."""
PIECES, PIECE = 16, 1024
"""Number of evenly spaced pieces that `quick_fingerprint` reads from a large tensor, and numbers per piece."""
FILE_PIECES, FILE_PIECE = 64, 4096
"""Number of evenly spaced pieces that `files_fingerprint` reads from a large file, and bytes per piece."""


def content_fingerprint(content: bytes) -> str:
    """Return the full SHA-256 of the content of a file, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def stamp(paths: Iterable[str | Path]) -> str:
    """Return 16 hexadecimal digits that change when one of the files is written, renamed, added or removed.

    Names, sizes and modification times are hashed, and no file is opened. Names are relative to the common folder of
    all files, so that moving this folder does not change the result.
    """
    names = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(name)
            current = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            current = "missing"
        digest.update(name_bytes(f"{os.path.relpath(name, root)}\0{current}\n"))
    return digest.hexdigest()[:DIGITS]


def files_fingerprint(paths: Iterable[str | Path]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of files: names, sizes, all bytes of small and pieces of large ones.

    It neither depends on the folder nor on modification times, so that copies of the files have the same fingerprint.
    """
    digest = hashlib.sha256()
    for path in sorted(map(Path, paths), key=lambda path: path.name):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= FILE_PIECES * FILE_PIECE:
                digest.update(file.read())
                continue
            for i in range(FILE_PIECES):
                file.seek(i * (size - FILE_PIECE) // (FILE_PIECES - 1))
                digest.update(file.read(FILE_PIECE))
    return digest.hexdigest()[:DIGITS]


def stamp_of_some(stamp: str, names: Iterable[str]) -> str:
    """Return 16 hexadecimal digits of a `stamp` and the names of some of the images in its files."""
    digest = hashlib.sha256(stamp.encode())
    for name in names:
        digest.update(name_bytes(f"\0{name}"))
    return digest.hexdigest()[:DIGITS]


def name_fraction(name: str) -> float:
    """Return a number in [0, 1) that depends on a name only, equally distributed over names.

    Names with the same characters in another Unicode normal form, as macOS writes them, give the same number.
    """
    digest = hashlib.sha256(name_bytes(unicodedata.normalize("NFC", name))).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def name_bytes(name: str) -> bytes:
    """Return bytes to hash for a file name: its UTF-8, even if it has bytes that are not UTF-8 (PEP 383)."""
    return name.encode("utf-8", "surrogatepass")


def tensors_fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the tensors' bytes, in the given order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def weights_fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all weights with their names, dtypes and shapes, on any device.

    Weights in half precision count as float32, in which they are loaded for other uses than sampling.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = in_float32(tensor)
        digest.update(header(name, tensor))
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]


def quick_fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all small tensors and of pieces of large ones, with their names.

    Pieces are sufficient because training changes all parts of a matrix. Several gigabytes take a fraction of a second.
    Weights in half precision count as float32, as in `weights_fingerprint`.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        some = in_float32(pieces(tensor.detach()))
        digest.update(header(name, tensor, some.dtype))
        digest.update(some.cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]


def header(name: str, tensor: Tensor, dtype: torch.dtype | None = None) -> bytes:
    """Return the line that is hashed before a tensor's bytes: its name, dtype and shape."""
    return f"{name} {dtype or tensor.dtype} {tuple(tensor.shape)}\n".encode()


def in_float32(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 if it is in half precision."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def pieces(tensor: Tensor) -> Tensor:
    """Return all numbers of a small tensor, or evenly spaced pieces of a large one, as a vector (n,)."""
    row = tensor.reshape(-1)
    last = len(row) - PIECE
    if len(row) <= PIECES * PIECE:
        return row
    return torch.cat([row[(start := i * last // (PIECES - 1)) : start + PIECE] for i in range(PIECES)])
