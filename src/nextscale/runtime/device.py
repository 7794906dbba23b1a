"""Devices: selection, fast precisions, autocast and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from nextscale.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """Return a device by name. ``auto`` is a CUDA GPU if there is one, else the CPU.

    Raises:
        InputError: the name is not a device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each kind of device raises another error if it is missing
        raise InputError(f"no device {name!r} on this machine: expected auto, cpu or cuda") from error
    if device.type == "meta":
        raise InputError("device meta computes nothing: expected auto, cpu or cuda")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are faster than in float32.

    This holds for GPUs of compute capability 8 or more, and for CPUs with AVX512-BF16. Newer Intel CPUs (with
    AVX512-FP16) are fast only with AMX. In a virtual machine that hides AMX, bfloat16 ran at two thirds of the rate of
    float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    hidden = is_intel() and capabilities().get("avx512_fp16") and not torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and has_bfloat16() and not hidden


def has_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions, fast or slow."""
    return torch.cpu._is_avx512_bf16_supported()


def is_intel() -> bool:
    """Return whether the CPU identifies as Intel."""
    return "Intel" in capabilities().get("cpu_name", "")


def has_fast_int8(device: torch.device) -> bool:
    """Return whether int8 is the fastest precision, through oneDNN. This holds for CPUs with AVX512-VNNI."""
    if device.type != "cpu" or not torch.cpu._is_vnni_supported():
        return False
    return all(hasattr(torch.ops.onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise"))


def capabilities() -> Mapping[str, Any]:
    """Return the CPU's name and instruction sets from PyTorch. PyTorch 2.9 reports nothing."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def multiplies_by_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the oneDNN operators of torch.compile support this precision on this device."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16())


def precision(dtype: str, device: torch.device) -> torch.autocast:
    """Return the autocast context of a type by name. It is disabled for float32 and tf32.

    Raises:
        InputError: the type is unknown, or it is float16 on the CPU, which is about 200 times slower than float32.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise InputError("dtype float16 is 200 times slower than float32 on the CPU: expected float32 or bfloat16")
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype not in ("float32", "tf32"))


def use_cores(count: int) -> None:
    """Set the number of CPU threads that PyTorch may use in the calling thread."""
    torch.get_num_threads()  # the first call in a thread resets the number to that of the process
    torch.set_num_threads(count)


def one_core_each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to each item on one CPU core, in parallel for as many items as PyTorch may use threads.

    Results then do not depend on the number of cores, bit for bit. Dividing one computation among cores would change
    rounding.
    """
    cores = torch.get_num_threads()

    def alone(item: Item) -> Result:
        use_cores(1)
        return function(item)

    try:
        if min(cores, len(items)) <= 1:
            return [alone(item) for item in items]
        with ThreadPoolExecutor(min(cores, len(items))) as pool:
            return list(pool.map(alone, items))
    finally:
        use_cores(cores)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Context manager that enables or disables TF32, which rounds inputs of float32 products to 10 bits on GPUs."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    earlier = matmul.allow_tf32, cudnn.allow_tf32  # type: ignore[attr-defined]
    matmul.allow_tf32, cudnn.allow_tf32 = allowed, allowed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = earlier  # type: ignore[attr-defined]
