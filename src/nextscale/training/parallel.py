"""How the processes of a run share a network: DDP, where each holds all of it, or FSDP2, where each holds a part."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from nextscale.acceleration.recompute import recompute_cheap_parts
from nextscale.errors import InputError
from nextscale.runtime.distributed import world_size


@dataclass(frozen=True)
class Execution:
    """How a run is computed. It changes speed and memory, and what floating point rounds, but not what is learned."""

    accumulate: int = 1
    """Parts that a process computes its share of a batch in, one after the other."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Of several processes: each holds everything (ddp), or a part of weights, gradients, optimizer state (fsdp)."""
    compile: bool = False
    """torch.compile."""
    recompute: bool = False
    """Activation checkpointing: compute blocks again in the backward pass instead of keeping what they computed."""
    workers: int = 0
    """Processes that load images."""

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InputError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.workers < 0:
            raise InputError(f"workers must be 0 or more, not {self.workers}")


def shard(network: nn.Module, parts: list[str]) -> None:
    """Divide the weights of a network among the processes, in place; those of a part are gathered together."""
    warnings.filterwarnings("ignore", ".* returned a view tensor", UserWarning)  # nothing is done to it in place
    for name in parts:
        fully_shard(network.get_submodule(name))
    root = fully_shard(network)
    root._get_fsdp_state()._lazy_init()  # else a part that is called first, as in sampling, takes itself for the whole


@contextmanager
def gathered(network: nn.Module) -> Iterator[nn.Module]:
    """Within, the weights that a sharded network holds itself are whole, for methods other than ``forward``."""
    if isinstance(network, FSDPModule):
        network.unshard()
    yield network
    if isinstance(network, FSDPModule):
        network.reshard()


def prepare(network: nn.Module, units: list[str], execution: Execution) -> None:
    """Set a network up for training: recomputation of cheap parts, and per unit torch.compile and checkpointing."""
    if not execution.compile:
        recompute_cheap_parts(network)
    for name in units:
        unit = network.get_submodule(name)
        if execution.recompute:
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, preserve_rng_state=False)
        if execution.compile:
            unit.compile()


def replicate(network: nn.Module) -> nn.Module:
    """What to call instead of the network so that its gradients are means over all processes."""
    if world_size() == 1 or isinstance(network, FSDPModule):
        return network
    return DistributedDataParallel(network)


@contextmanager
def gradients_stay(networks: Mapping[str, nn.Module], stay: bool) -> Iterator[None]:
    """Within, gradients add up without being exchanged, if ``stay``: more of the batch is to come.

    The forward pass belongs within, too: DDP decides there what its backward pass will do.
    """
    for network in networks.values():
        if isinstance(network, DistributedDataParallel):
            network.require_backward_grad_sync = not stay
        elif isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(not stay)
    yield


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which this process may hold a part, in full. All processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill_parts(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network, sharded or not, the tensors of a full state dictionary."""
    for name, target in network.state_dict().items():
        full = tensors[name].to(target.device)
        if isinstance(target, DTensor):
            full = distribute_tensor(full, target.device_mesh, target.placements)
        target.copy_(full)
