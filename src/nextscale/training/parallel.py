"""Data parallelism: DDP (each process holds all weights) and FSDP2 (each process holds a part of them)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nextscale.acceleration.recompute import recompute_cheap_parts
from nextscale.errors import InputError
from nextscale.io.module_folder import check_fits, headers_of
from nextscale.runtime.distributed import world_size

Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Execution:
    """Execution options of a run. They change speed, memory and rounding errors, but not the training algorithm."""

    accumulate: int = 1
    """Number of gradient accumulation steps: each process computes its batch in this many parts."""
    strategy: Strategy = "ddp"
    """ddp: each process holds everything. fsdp: each process holds a part of weights, gradients and optimizer state."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    recompute: bool = False
    """Activation checkpointing: recompute the blocks in the backward pass instead of storing their activations."""
    workers: int = 0
    """Number of processes that load images."""

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InputError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, not {self.workers}")


def shard(network: nn.Module, parts: list[str]) -> None:
    """Shard the weights of a network over the processes, in place. Each submodule in ``parts`` is one FSDP unit."""
    warnings.filterwarnings("ignore", ".* returned a view tensor", UserWarning)  # no in-place operation follows
    for name in parts:
        part = network.get_submodule(name)
        fully_shard(part)
        for method in getattr(part, "forward_methods", ()):
            register_fsdp_forward_method(part, method)
    root = fully_shard(network)
    root._get_fsdp_state()._lazy_init()  # otherwise a part called first, as in sampling, acts as root


@contextmanager
def gathered(network: nn.Module) -> Iterator[nn.Module]:
    """Context manager that gathers the network's root weights, for calls of methods other than ``forward``."""
    if isinstance(network, FSDPModule):
        network.unshard()
    yield network
    if isinstance(network, FSDPModule):
        network.reshard()


def prepare(network: nn.Module, units: list[str], execution: Execution) -> None:
    """Prepare a network for training: recompute its cheap parts, and compile or checkpoint each of its ``units``."""
    if not execution.compile:
        recompute_cheap_parts(network)
    for name in units:
        unit = network.get_submodule(name)
        if execution.recompute:
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, preserve_rng_state=False)
        if execution.compile:
            unit.compile()


def replicate(network: nn.Module) -> nn.Module:
    """Return a wrapper of the network that averages its gradients over all processes."""
    if world_size() == 1 or isinstance(network, FSDPModule):
        return network
    return DistributedDataParallel(network)


@contextmanager
def gradients_stay(networks: Mapping[str, nn.Module], stay: bool) -> Iterator[None]:
    """Context manager that, if ``stay``, accumulates gradients without exchanging them between processes.

    Use it for all parts of a batch except the last. Run the forward pass inside it as well, because DDP decides there
    whether its backward pass exchanges gradients.
    """
    for network in networks.values():
        if isinstance(network, DistributedDataParallel):
            network.require_backward_grad_sync = not stay
        elif isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(not stay)
    yield


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor of a possibly sharded one. All processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill_parts(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy a full state dictionary into a network, sharded or not.

    Raises:
        InputError: the names, shapes or kinds of numbers are not those of the network.
    """
    check_fits(network, headers_of(tensors), "the saved weights")
    for name, target in network.state_dict().items():
        full = tensors[name].to(target.device)
        if isinstance(target, DTensor):
            full = distribute_tensor(full, target.device_mesh, target.placements)
        target.copy_(full)
