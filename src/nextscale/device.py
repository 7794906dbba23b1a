"""Where to compute, and in what precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nextscale.errors import InputError

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
    """Whether products in bfloat16 are faster than in float32: on GPUs that know it, and CPUs with AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


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
