"""The device to compute on, what it is fast in, and the precision of autocast."""

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
        InputError: not a device, or one that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # each kind of device has its own way to be absent
        raise InputError(f"no device {name!r} on this machine: expected auto, cpu or cuda") from error
    if device.type == "meta":
        raise InputError("device meta computes nothing: expected auto, cpu or cuda")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are faster than in float32.

    They are on GPUs of compute capability 8 or more, and on CPUs with AVX512-BF16. Newer CPUs of Intel (with
    AVX512-FP16) compute them fast only by AMX: where a virtual machine hides AMX, bfloat16 was measured at two thirds
    of float32's rate.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    hidden = is_intel() and capabilities().get("avx512_fp16") and not torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and has_bfloat16() and not hidden


def has_bfloat16() -> bool:
    """Return whether the CPU has products in bfloat16, fast or not."""
    return torch.cpu._is_avx512_bf16_supported()


def is_intel() -> bool:
    """Return whether the CPU is known to be Intel's."""
    return "Intel" in capabilities().get("cpu_name", "")


def has_fast_int8(device: torch.device) -> bool:
    """Return whether int8 products are available through oneDNN and the fastest: on CPUs with AVX512-VNNI."""
    if device.type != "cpu" or not torch.cpu._is_vnni_supported():
        return False
    return all(hasattr(torch.ops.onednn, name) for name in ("qlinear_prepack", "qlinear_pointwise"))


def capabilities() -> Mapping[str, Any]:
    """Return the CPU's name and instructions as PyTorch reports them. PyTorch 2.9 reports nothing."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def multiplies_by_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies in this precision on this device, by the operators that torch.compile uses."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16())


def precision(dtype: str, device: torch.device) -> torch.autocast:
    """Return autocast for a type by name; for float32 and tf32 it is disabled.

    Raises:
        InputError: an unknown type, or float16 on the CPU, where it is about 200 times slower than float32.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise InputError("dtype float16 is 200 times slower than float32 on the CPU: expected float32 or bfloat16")
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype not in ("float32", "tf32"))


def use_cores(count: int) -> None:
    """Set how many threads torch may use on the CPU for the calling thread."""
    torch.get_num_threads()  # a thread's first call adopts the process's number, so it must come before the next line
    torch.set_num_threads(count)


def one_core_each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to each item on one core of the CPU, to as many items at a time as torch may use threads.

    No bit of a result then depends on the number of cores. (Dividing one computation among cores changes rounding.)
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
    """Allow or forbid GPUs to round the factors of float32 products and convolutions to 10 bits. The CPU never does."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    earlier = matmul.allow_tf32, cudnn.allow_tf32  # type: ignore[attr-defined]
    matmul.allow_tf32, cudnn.allow_tf32 = allowed, allowed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = earlier  # type: ignore[attr-defined]
