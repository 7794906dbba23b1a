"""Read official ``.pth`` files without executing code in them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextscale.errors import InputError, brief

WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
"""Prefixes that DistributedDataParallel and torch.compile add to the names of parameters."""
MOST_ADDED = 2**28
"""Most bytes that tensors may need beyond those in the file."""


def read_pth(path: str | Path) -> dict[str, Any]:
    """Return the content of a file written by `torch.save`. Only tensors and plain values are read.

    Raises:
        InputError: the file is missing, is not a checkpoint (an HTML page, a truncated file), or is a pickle that
            would run code.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{path} is an HTML page, not a checkpoint: the download failed, download the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not a checkpoint: download the file itself")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(f"{path} holds more than tensors (a pickle that runs code): refused") from error
        raise InputError(f"{path} is truncated or not a PyTorch checkpoint") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for a dictionary of tensors") from error
    except Exception as error:  # damaged archives raise errors of many types
        raise InputError(f"{path} is truncated or not a PyTorch checkpoint ({type(error).__name__})") from error
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return dict(content)


def as_state(content: Mapping[str, Any], path: Path, as_stored: bool = False) -> dict[str, Tensor]:
    """Return named tensors in float32 (integer tensors unchanged), without the prefixes of wrappers in their names.

    Args:
        as_stored: keep the type of floating-point tensors, which then stay memory-mapped.

    Raises:
        InputError: the content is not a dictionary of plain tensors, or tensors need much more memory than the file.
    """
    state, added = {}, 0
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path} is not a dictionary of tensors: {brief(name)} is a {type(value).__name__}")
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
            raise InputError(f"{path}: {brief(name)} is not a plain tensor")
        needed, there = value.numel() * value.itemsize, value.untyped_storage().nbytes()
        added += max(0, needed - there)  # a tensor of one number may claim any shape, by strides of 0
        if added > MOST_ADDED:
            raise InputError(
                f"{path}: {brief(name)} of shape {tuple(value.shape)} needs {needed:,} bytes, but the file holds "
                f"{there:,} of them"
            )
        state[WRAPPERS.sub("", name)] = value.float() if value.is_floating_point() and not as_stored else value
    return state
