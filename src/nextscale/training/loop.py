"""The training loop, for both models: data, loss, optimizer, EMA, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from PIL import Image
from torch import nn

from nextscale.checkpoint import load_checkpoint, save_checkpoint
from nextscale.data.dataset import PictureDataset
from nextscale.data.loader import Batch, check_data, training_batches, validation_batches
from nextscale.errors import InputError
from nextscale.training.ema import make_ema, update_ema
from nextscale.training.optimizer import load_optimizer_tensors, make_optimizer, optimizer_tensors, set_step
from nextscale.training.recipes import Recipe
from nextscale.training.run import Meter, Run
from nextscale.training.tasks import Metrics, Task

Preview = Callable[[nn.Module], Image.Image]


@dataclass(frozen=True)
class Habits:
    """How often, in steps, a run does what does not change its weights; 0 is never, but for the last step."""

    log_every: int = 20
    save_every: int = 100
    validate_every: int = 500
    preview_every: int = 500
    workers: int = 0
    """Processes that load pictures."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"{name} must be 0 or more, not {value}")


def train(
    task: Task,
    data: PictureDataset,
    val_data: PictureDataset | None,
    recipe: Recipe,
    run: Run,
    habits: Habits,
    device: torch.device,
    preview: Preview | None = None,
) -> nn.Module:
    """Train until ``recipe.steps``, from the newest checkpoint of the run if it has one. Returns the EMA model.

    Whatever is random in a step comes from a generator seeded by (recipe.seed, step), and so does its batch: a run
    that was interrupted ends with the same weights, bit for bit, as one that was not.

    Raises:
        InputError: the loss is not finite any more, the data cannot be read, or a batch is larger than the data.
    """
    check_data(data, val_data, recipe.batch_size)
    optimizer = make_optimizer(task.model, recipe)
    ema = make_ema(task.model)
    first = resume(task, optimizer, ema, run)
    run.start_at(first)

    meter = Meter()
    batches = training_batches(data, recipe.batch_size, first, habits.workers)
    for step in range(first, recipe.steps):
        start = time.monotonic()
        batch = next(batches).to(device)
        rate = set_step(optimizer, recipe, step)
        metrics = training_step(task, optimizer, ema, batch, recipe, step)
        meter.add(metrics, len(batch.images), time.monotonic() - start)

        done = step + 1
        run.pass_over(done, batch.unreadable)
        if is_due(done, habits.log_every, recipe.steps):
            values = meter.read()
            run.log(done, values | {"learning_rate": rate})
            run.say(progress_line(done, recipe.steps, values, rate, recipe.batch_size))
        if val_data and is_due(done, habits.validate_every, recipe.steps):
            figures = task.validate(ema, watched(validation_batches(val_data, recipe.batch_size), device, run, done))
            run.log(done, {f"val_{name}": value for name, value in figures.items()})
            run.say("validation: " + ", ".join(f"{name} {_short(value)}" for name, value in figures.items()))
        if preview and is_due(done, habits.preview_every, recipe.steps):
            run.save_preview(done, preview(ema))
        if is_due(done, habits.save_every, recipe.steps):
            save(task, optimizer, ema, run, done)
    if first >= recipe.steps:
        run.say(f"{run.folder} is finished: {recipe.steps} steps")
    run.close()
    return ema


def training_step(
    task: Task, optimizer: torch.optim.Optimizer, ema: nn.Module, batch: Batch, recipe: Recipe, step: int
) -> Metrics:
    """Move the weights and their EMA by one batch.

    Returns the loss, the gradient's norm before clipping, and the task's own metrics.

    Raises:
        InputError: the loss is not finite; the weights are as they were.
    """
    generator = step_generator(recipe.seed, step)
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        loss, metrics = task.loss(batch, generator)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    grad_norm = nn.utils.clip_grad_norm_(task.model.parameters(), recipe.clip)
    if not torch.isfinite(grad_norm + loss.detach()):
        raise InputError(f"the loss is not finite at step {step}: training stops, and earlier checkpoints are kept")
    optimizer.step()
    metrics = metrics | task.after_step(step, generator)
    update_ema(ema, task.model, recipe.ema_decay, step)
    return {"loss": loss.detach(), "grad_norm": grad_norm} | metrics


def watched(batches: Iterator[Batch], device: torch.device, run: Run, step: int) -> Iterator[Batch]:
    """Batches on the device; the run hears of files that could not be read."""
    for batch in batches:
        run.pass_over(step, batch.unreadable)
        yield batch.to(device)


def save(task: Task, optimizer: torch.optim.Optimizer, ema: nn.Module, run: Run, step: int) -> None:
    """Checkpoint all that the next step depends on."""
    parts = {"model": task.model.state_dict(), "optimizer": optimizer_tensors(optimizer), "task": task.tensors()}
    state = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    save_checkpoint(run.folder, step, task.config, ema.state_dict(), state)


def resume(task: Task, optimizer: torch.optim.Optimizer, ema: nn.Module, run: Run) -> int:
    """Put everything where the newest checkpoint left it; returns its step, 0 without one."""
    checkpoint = load_checkpoint(run.folder)
    if checkpoint is None:
        return 0
    step, weights, state = checkpoint

    def part(name: str) -> dict[str, torch.Tensor]:
        return {key.removeprefix(f"{name}/"): tensor for key, tensor in state.items() if key.startswith(f"{name}/")}

    ema.load_state_dict(weights)
    task.model.load_state_dict(part("model"))
    load_optimizer_tensors(optimizer, part("optimizer"))
    task.load_tensors(part("task"))
    run.say(f"resuming {run.folder} at step {step}")
    return step


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of one step. On the CPU whatever the device, so that runs are alike."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def is_due(done: int, every: int, last: int) -> bool:
    return done == last or (every > 0 and done % every == 0)


def progress_line(done: int, total: int, values: dict[str, Any], rate: float, batch_size: int) -> str:
    """What the watcher sees of a step: losses, speed, time to go."""
    speed = values["images_per_second"]
    eta = timedelta(seconds=round((total - done) * batch_size / speed))
    figures = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float))
    return f"step {done}/{total}  {figures}  lr {rate:.2e}  ETA {eta}"


def _short(value: Any) -> str:
    numbers = value if isinstance(value, list) else [value]
    return " ".join(f"{number:.4g}" for number in numbers)
