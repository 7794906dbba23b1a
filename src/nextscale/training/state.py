"""All that a training run changes from step to step, and its way into a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nextscale.io.checkpoint import CheckpointWriter, load_state, load_weights
from nextscale.io.checkpoint_folder import checkpoint_step, newest_checkpoint
from nextscale.runtime.distributed import world_size
from nextscale.training.ema import make_ema
from nextscale.training.lora import has_changes, merged_state
from nextscale.training.optimizer import LossScaler, make_optimizer, optimizer_tensors
from nextscale.training.parallel import Execution, fill_parts, prepare, replicate, shard, whole
from nextscale.training.recipes import Recipe
from nextscale.training.task import MODEL, Task


@dataclass(frozen=True)
class TrainingState:
    """The task with its networks, their optimizers, and the average of the model."""

    task: Task
    networks: dict[str, nn.Module]
    """The networks themselves, which hold the weights; the task may call them through a wrapper."""
    optimizers: dict[str, torch.optim.AdamW]
    ema: nn.Module
    """The model itself if the recipe's ``ema_decay`` is 0."""
    scaler: LossScaler

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the EMA's plain weights, named; writing into these tensors changes the state."""
        parts = {"task": self.task.tensors(), "scaler": {"factor": self.scaler.factor}}
        if has_changes(self.ema):  # what is saved as the EMA's weights has them added in
            parts["ema"] = self.ema.state_dict()
        for name, network in self.networks.items():
            parts[name] = network.state_dict()
            parts[f"{name}.optimizer"] = optimizer_tensors(self.optimizers[name])
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def save(self, step: int, writer: CheckpointWriter) -> None:
        """Checkpoint all that the next step depends on."""
        weights = {name: whole(tensor) for name, tensor in merged_state(self.ema).items()}
        writer.save(step, self.task.config, weights, self.tensors())

    def resume(self, run: Path) -> int:
        """Put everything where the newest whole checkpoint left it; returns its step, 0 without one."""
        folder = newest_checkpoint(run)
        if folder is None:
            return 0
        if not has_changes(self.ema):
            fill_parts(self.ema, load_weights(folder))
        load_state(folder, self.tensors())
        self.scaler.restore()
        return checkpoint_step(folder)


def make_state(task: Task, recipe: Recipe, execution: Execution, device: torch.device) -> TrainingState:
    """What a run starts from: fresh optimizers, and networks divided among the processes and compiled as asked."""
    networks = dict(task.networks)
    ema = make_ema(networks[MODEL], recipe.ema_decay)
    if world_size() > 1 and execution.strategy == "fsdp":
        for network in {networks[MODEL], ema}:
            shard(network, task.shards)
    prepare(networks[MODEL], task.units, execution)
    task.networks.update({name: replicate(network) for name, network in networks.items()})
    optimizers = {
        name: make_optimizer(network, recipe, **task.optimizer_options(name)) for name, network in networks.items()
    }
    return TrainingState(task, networks, optimizers, ema, LossScaler(device, recipe.precision == "float16"))
