"""Where to compute, and in what precision."""

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
    """``auto`` is a CUDA GPU where there is one, else the CPU.

    Raises:
        InputError: not a device, or one that this machine lacks.
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
    """Whether products in bfloat16 are faster than in float32.

    They are on GPUs that know it, and on CPUs with AVX512-BF16. Intel's newer ones (those with AVX512-FP16) have their
    fast ones in AMX: where a virtual machine hides that, what is left was measured at two thirds of float32's rate.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    hidden = is_intel() and capabilities().get("avx512_fp16") and not torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and has_bfloat16() and not hidden


def has_bfloat16() -> bool:
    """Whether the CPU has products in bfloat16, fast or not."""
    return torch.cpu._is_avx512_bf16_supported()


def is_intel() -> bool:
    """Whether the CPU is known to be Intel's."""
    return "Intel" in capabilities().get("cpu_name", "")


def capabilities() -> Mapping[str, Any]:
    """What PyTorch says of the CPU: its name and its instructions. PyTorch 2.9 says nothing."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def multiplies_by_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in this precision here. Its operators are those that torch.compile uses."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and has_bfloat16())


def precision(dtype: str, device: torch.device) -> torch.autocast:
    """Autocast to float32 or tf32 (none), bfloat16 or float16.

    Raises:
        InputError: another type, or float16 on the CPU, where it is about 200 times slower than float32.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise InputError("dtype float16 is 200 times slower than float32 on the CPU: expected float32 or bfloat16")
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype not in ("float32", "tf32"))


def use_cores(count: int) -> None:
    """How many threads torch may have for what the calling thread does on the CPU."""
    torch.get_num_threads()  # a thread's first call takes over the process's number: it must not come later
    torch.set_num_threads(count)


def one_core_each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to each item on one core of the CPU, to as many at a time as torch may have threads.

    No bit of a result then depends on the number of cores: how work is shared out shows in roundings.
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
    """Whether GPUs may round the factors of float32 products and convolutions to 10 bits. The CPU never does."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    earlier = matmul.allow_tf32, cudnn.allow_tf32  # type: ignore[attr-defined]
    matmul.allow_tf32, cudnn.allow_tf32 = allowed, allowed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = earlier  # type: ignore[attr-defined]
