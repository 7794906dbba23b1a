"""The training loop of all models: data, losses, optimizers, EMA, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from PIL import Image
from torch import nn

from nextscale.data.dataset import Examples
from nextscale.data.loader import Batch, TrainingBatches, check_data, validation_batches
from nextscale.errors import InputError
from nextscale.io.checkpoint import CheckpointWriter
from nextscale.io.checkpoint_folder import checkpoint_path, incomplete_checkpoints
from nextscale.runtime.allocator import kept
from nextscale.runtime.device import precision, tf32
from nextscale.runtime.distributed import any_process, barrier, is_main
from nextscale.runtime.stop import StopRequest, stop_on_signals
from nextscale.training.ema import update_ema
from nextscale.training.optimizer import set_step
from nextscale.training.parallel import Execution, gathered, gradients_stay, whole
from nextscale.training.recipes import Recipe
from nextscale.training.run import Meter, Run
from nextscale.training.state import TrainingState, make_state
from nextscale.training.task import MODEL, Metrics, Task

Preview = Callable[[nn.Module], Image.Image]


@dataclass(frozen=True)
class Intervals:
    """Numbers of steps between log lines, checkpoints, validations and previews.

    0 means at the last step only. Intervals do not change the trained weights.
    """

    log_every: int = 20
    save_every: int = 100
    validate_every: int = 500
    preview_every: int = 500
    validate_images: int = 0
    """Number of validation images, evenly spaced in the data; 0 uses all. The last step always uses all."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise InputError(f"{name} must be 0 or more, not {value}")


def train(
    task: Task,
    data: Examples,
    val_data: Examples | None,
    recipe: Recipe,
    run: Run,
    intervals: Intervals,
    device: torch.device,
    preview: Preview | None = None,
    watch: Callable[[], str] | None = None,
    execution: Execution = Execution(),  # noqa: B008 (frozen)
) -> nn.Module:
    """Train until ``recipe.steps``, starting from the newest checkpoint of the run if there is one.

    The batch of a step and all random numbers depend on (recipe.seed, step) only. An interrupted and resumed run
    therefore ends with the same weights, bit for bit, as an uninterrupted one. After SIGTERM, SIGHUP or Ctrl-C the run
    finishes the current step, with its validation and preview, and saves a checkpoint. It then returns, or raises
    KeyboardInterrupt after Ctrl-C.

    Args:
        preview: makes the preview image of the EMA model, saved in the run's folder.
        watch: called at the preview interval, after the log is written. The run prints the returned text.

    Returns:
        The EMA model.

    Raises:
        InputError: the loss is not finite, the data cannot be read, a batch is larger than the data or cannot be
            divided among the processes, or a checkpoint cannot be written.
        KeyboardInterrupt: Ctrl-C stopped the run before its last step, and the checkpoint is saved.
    """
    note = "saving a checkpoint after this step" if is_main() else ""
    with closing(run), stop_on_signals(note) as stop:
        return train_in(run, stop, task, data, val_data, recipe, intervals, device, preview, watch, execution)


def train_in(
    run: Run,
    stop: StopRequest,
    task: Task,
    data: Examples,
    val_data: Examples | None,
    recipe: Recipe,
    intervals: Intervals,
    device: torch.device,
    preview: Preview | None,
    watch: Callable[[], str] | None,
    execution: Execution,
) -> nn.Module:
    """Train in an open run; see `train`."""
    recipe = recipe.on(device)
    check_data(data, val_data, recipe.batch_size)
    state = make_state(task, recipe, execution, device)
    options = state.options
    for folder in incomplete_checkpoints(run.folder):
        run.say(f"skipping the incomplete checkpoint {folder}")
    first = state.resume(run.folder)
    if first:
        run.say(f"resuming {run.folder} at step {first}")
    run.start_at(first)

    meter = Meter()
    batches = TrainingBatches(data, recipe.batch_size, first, execution.workers, execution.accumulate)
    exact = recipe.precision == "float32"
    stopping = interrupted = False
    with kept(device), tf32(not exact), CheckpointWriter(run.folder) as writer:
        for step in range(first, recipe.steps):
            start = time.monotonic()
            parts = [part.to(device) for part in next(batches)]
            rate = {name: set_step(optimizer, recipe, step) for name, optimizer in state.optimizers.items()}[MODEL]
            metrics = training_step(state, parts, recipe, step)
            meter.add(metrics, recipe.batch_size, time.monotonic() - start, batches.waited)

            done, last = step + 1, recipe.steps
            run.report_skipped(done, [name for part in parts for name in part.unreadable])
            if is_due(done, intervals.log_every, last):
                values = meter.read() | options.report()
                run.log(done, values | {"learning_rate": rate})
                run.say(progress_line(done, last, values, rate, recipe.batch_size))
            if val_data and options.validate and is_due(done, intervals.validate_every, last):
                limit = intervals.validate_images if done < last else 0
                unseen = validation_batches(val_data, recipe.batch_size, limit)
                with gathered(state.ema) as ema:
                    figures = options.validate(ema, watched(unseen, device, run, done))
                run.log(done, {f"val_{name}": value for name, value in figures.items()})
                run.say("validation: " + ", ".join(f"{name} {short(value)}" for name, value in figures.items()))
            if preview and is_due(done, intervals.preview_every, last):
                with gathered(state.ema) as ema:
                    run.save_preview(done, preview(ema))
            if watch and is_main() and is_due(done, intervals.preview_every, last):
                run.say(watch())
            stopping = done < last and any_process(stop.asked, device)
            if stopping or is_due(done, intervals.save_every, last):
                state.save(done, writer)
            if stopping:
                writer.wait()
                saved = checkpoint_path(run.folder, done)
                run.say(f"stopped: saved at step {done} of {last} in {saved}. Repeat the same command to resume.")
                interrupted = any_process(stop.interrupted, device)
                break
    if first >= recipe.steps:
        run.say(f"{run.folder} is already finished: {recipe.steps} steps")
    elif not stopping:
        run.say(f"finished: {recipe.steps} steps, saved in {checkpoint_path(run.folder, recipe.steps)}")
    if interrupted:
        barrier()  # until the main process has written the checkpoint
        raise KeyboardInterrupt
    return state.ema


def training_step(state: TrainingState, parts: Sequence[Batch], recipe: Recipe, step: int) -> Metrics:
    """Update the weights and their EMA with one batch. ``parts`` are the parts of the batch on this process.

    Returns:
        The loss and the gradient norm before clipping of each network, and the metrics of the task. All are means over
        the parts.

    Raises:
        InputError: a loss is not finite. The weights have not been changed.
    """
    task, scaler = state.task, state.scaler
    device = parts[0].labels.device
    of_parts: list[Metrics] = []
    for optimizer in state.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    for i, batch in enumerate(parts):
        with gradients_stay(task.networks, i < len(parts) - 1):
            with precision(recipe.precision, device):
                losses, metrics = task.losses(batch, step, step_generator(recipe.seed, step))
            scaler.scale(torch.stack(list(losses.values())).sum() / len(parts)).backward()
        of_parts.append({prefixed(name, "loss"): loss for name, loss in losses.items()} | metrics)
    metrics = {name: torch.stack([part[name].detach() for part in of_parts]).mean(0) for name in of_parts[0]}

    learning = [name for name in state.networks if prefixed(name, "loss") in metrics]
    for name in learning:
        scaler.unscale_(state.optimizers[name])
        norm = whole(nn.utils.clip_grad_norm_(state.networks[name].parameters(), recipe.clip))
        loss_is_finite, norm_is_finite = torch.isfinite(metrics[prefixed(name, "loss")]), torch.isfinite(norm)
        if not loss_is_finite or not (norm_is_finite or scaler.is_enabled()):
            raise InputError(
                f"the loss is not finite at step {step + 1}: training stopped; earlier checkpoints are kept"
            )
        if norm_is_finite:  # otherwise float16 overflowed, and the scaler skips the step
            metrics[prefixed(name, "grad_norm")] = norm
    for name in learning:
        scaler.step(state.optimizers[name])
    scaler.update()
    metrics |= state.options.after_step(step, metrics, step_generator(recipe.seed, step, after=True))
    update_ema(state.ema, state.networks[MODEL], recipe.ema_decay, step)
    return metrics


def watched(batches: Iterator[Batch], device: torch.device, run: Run, step: int) -> Iterator[Batch]:
    """Move batches to the device, and report unreadable files."""
    for batch in batches:
        run.report_skipped(step, batch.unreadable)
        yield batch.to(device)


def step_generator(seed: int, step: int, after: bool = False) -> torch.Generator:
    """Return the random generator of a step, or of ``after_step``. It is on the CPU, so it is equal on all devices."""
    return torch.Generator().manual_seed((2 * (seed * 1_000_003 + step) + after) % 2**63)


def is_due(done: int, every: int, last: int) -> bool:
    """Return whether ``done`` steps are a multiple of ``every``, or the last step."""
    return done == last or (every > 0 and done % every == 0)


def prefixed(network: str, name: str) -> str:
    """Return the name of a metric of a network: ``loss`` for the model, ``critic_loss`` for the critic."""
    return name if network == MODEL else f"{network}_{name}"


def progress_line(done: int, total: int, values: dict[str, Any], rate: float, batch_size: int) -> str:
    """Return the line to print for a step: metrics, learning rate, remaining time, and an alarm if there is one."""
    eta = timedelta(seconds=round((total - done) * batch_size / values["images_per_second"]))
    figures = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float))
    alarm = f"  ALARM: {values['alarm']}" if "alarm" in values else ""
    return f"step {done}/{total}  {figures}  lr {rate:.2e}  ETA {eta}{alarm}"


def short(value: Any) -> str:
    """Format a number or a list of numbers with four digits."""
    numbers = value if isinstance(value, list) else [value]
    return " ".join(f"{number:.4g}" for number in numbers)
