"""The state of a training run, saved to and restored from checkpoints."""

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
from nextscale.training.task import MODEL, Task, TaskOptions, options_of


@dataclass(frozen=True)
class TrainingState:
    """A task, its networks, their optimizers, and the EMA of the model."""

    task: Task
    options: TaskOptions
    """The task's optional members."""
    networks: dict[str, nn.Module]
    """The networks that hold the weights. ``task.networks`` may hold wrappers of them."""
    optimizers: dict[str, torch.optim.AdamW]
    ema: nn.Module
    """The model itself if ``ema_decay`` of the recipe is 0 and the model has no buffers."""
    scaler: LossScaler

    def tensors(self) -> dict[str, Tensor]:
        """Return all named tensors except the EMA weights. Writing into these tensors changes the state."""
        parts = {"task": self.options.tensors(), "scaler": {"factor": self.scaler.factor}}
        if has_changes(self.ema):  # the saved EMA weights contain the merged matrices
            parts["ema"] = self.ema.state_dict()
        for name, network in self.networks.items():
            parts[name] = network.state_dict()
            parts[f"{name}.optimizer"] = optimizer_tensors(self.optimizers[name])
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def save(self, step: int, writer: CheckpointWriter) -> None:
        """Save a checkpoint with everything that the next step depends on."""
        weights = {name: whole(tensor) for name, tensor in merged_state(self.ema).items()}
        writer.save(step, self.options.config, weights, self.tensors())

    def resume(self, run: Path) -> int:
        """Restore the newest complete checkpoint of a run. Return its step, or 0 if there is none."""
        folder = newest_checkpoint(run)
        if folder is None:
            return 0
        if not has_changes(self.ema):
            fill_parts(self.ema, load_weights(folder))
        load_state(folder, self.tensors())
        self.scaler.restore()
        return checkpoint_step(folder)


def make_state(task: Task, recipe: Recipe, execution: Execution, device: torch.device) -> TrainingState:
    """Return the initial state of a run: new optimizers, and networks wrapped according to ``execution``."""
    networks, options = dict(task.networks), options_of(task)
    ema = make_ema(networks[MODEL], recipe.ema_decay)
    if world_size() > 1 and execution.strategy == "fsdp":
        for network in {networks[MODEL], ema}:
            shard(network, list(options.shards))
    prepare(networks[MODEL], list(options.units), execution)
    task.networks.update({name: replicate(network) for name, network in networks.items()})
    optimizers = {
        name: make_optimizer(network, recipe, **options.optimizer_options(name)) for name, network in networks.items()
    }
    return TrainingState(task, options, networks, optimizers, ema, LossScaler(device, recipe.precision == "float16"))
