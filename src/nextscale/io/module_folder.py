"""A folder with ``config.json`` and ``model.safetensors`` <-> a module.

A training run is such a folder too: its newest checkpoint holds the two files.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nextscale.errors import InputError, brief
from nextscale.io.files import make_folder, read_json, read_tensors, write_json, write_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STATE = "state"
FILES = "files.json"
CHECKPOINTS = "checkpoints"

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def as_config(kind: type[ConfigT], value: ConfigT | Mapping[str, Any]) -> ConfigT:
    """A config dataclass from itself or from what JSON made of it; unknown keys are an error."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{kind.__name__} is written as an object with named fields, not {brief(value)}")
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(value) - names:
        raise InputError(
            f"{kind.__name__} has no field {', '.join(sorted(unknown))[:100]}; it has {', '.join(sorted(names))}"
        )
    if missing := [name for name in required_fields(kind) if name not in value]:
        raise InputError(f"{kind.__name__} lacks {', '.join(missing)}")
    try:
        return kind(**value)
    except TypeError as error:
        raise InputError(f"{kind.__name__} cannot be made from {brief(dict(value))}: {error}") from error


def required_fields(kind: type) -> list[str]:
    """The fields of a dataclass that have no default."""
    nothing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(kind) if f.default is nothing and f.default_factory is nothing]


def check_fields(config: Any) -> None:
    """Raises InputError where a field is not of its kind: an int >= 1, a finite float, a bool, a text, several
    ints >= 1, or two floats in [0, 1). ``least`` and ``most`` in a field's metadata set other bounds of a number."""
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), kinds[field.name]
        if kind is int and not _is_count(value, least := field.metadata.get("least", 1)):
            raise InputError(f"{field.name} must be an integer of at least {least}, not {brief(value)}")
        if kind is str and not isinstance(value, str):
            raise InputError(f"{field.name} must be a text, not {brief(value)}")
        if kind is bool and not isinstance(value, bool):
            raise InputError(f"{field.name} must be true or false, not {brief(value)}")
        if kind is float:
            low, high = field.metadata.get("least", -math.inf), field.metadata.get("most", math.inf)
            if not (_is_number(value) and low <= value <= high):
                least = "" if math.isinf(low) else f" of at least {low:g}"
                expected = f" from {low:g} to {high:g}" if math.isfinite(high) else least
                raise InputError(f"{field.name} must be a finite number{expected}, not {brief(value)}")
        if kind == tuple[int, ...] and not (
            isinstance(value, tuple) and value and all(_is_count(item, 1) for item in value)
        ):
            raise InputError(f"{field.name} must be one or more integers of at least 1, not {brief(value)}")
        if kind == tuple[float, float] and not (
            isinstance(value, tuple) and len(value) == 2 and all(_is_number(item) and 0 <= item < 1 for item in value)
        ):
            raise InputError(f"{field.name} must be two numbers of at least 0 and below 1, not {brief(value)}")


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fill(module: ModuleT, state: Mapping[str, Tensor], source: object) -> ModuleT:
    """Give a module the tensors of ``state``, as they are (a module on the meta device becomes real).

    Raises:
        InputError: missing or unknown names, or another shape.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            raise InputError(
                f"{source}: {name} has shape {tuple(state[name].shape)}, "
                f"but the configuration expects {tuple(tensor.shape)}"
            )
    kind = f"the {len(expected)} tensors of this {type(module).__name__}"
    if missing := expected.keys() - state.keys():
        raise InputError(f"{source} lacks {len(missing)} of {kind}, {min(missing)} the first")
    if unknown := state.keys() - expected.keys():
        raise InputError(f"{source} has {len(unknown)} tensors besides {kind}, {min(unknown)} the first")
    module.load_state_dict(dict(state), assign=True)
    return module


def newest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint folder of a training run, if there is one."""
    folders = sorted((run / CHECKPOINTS).glob("step-*"), key=checkpoint_step, reverse=True)
    return next((folder for folder in folders if is_whole(folder)), None)


def incomplete_checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders that are newer than the newest whole one: they were cut short."""
    whole = newest_checkpoint(run)
    newest = checkpoint_step(whole) if whole else -1
    return sorted(folder for folder in (run / CHECKPOINTS).glob("step-*") if checkpoint_step(folder) > newest)


def checkpoint_step(folder: Path) -> int:
    """1000 of ``step-00001000``; -1 for another name."""
    digits = folder.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has all files that it lists, none of them cut short."""
    try:
        sizes = json.loads((checkpoint / FILES).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def check_no_run(folder: Path) -> Path:
    """The folder, made if need be; raises InputError if it is a training run's, whose newest weights must stay."""
    if newest_checkpoint(folder):
        raise InputError(f"{folder} holds a training run: choose another folder")
    return make_folder(folder)


def is_module_folder(folder: Path) -> bool:
    """Whether `load_module` would find something here."""
    return (folder / CONFIG).is_file() or newest_checkpoint(folder) is not None


def load_module(folder: str | Path, config_kind: type[ConfigT], build: Callable[[ConfigT], ModuleT]) -> ModuleT:
    """Build a module from a folder, in float32 whatever the file's precision, ready for use (eval mode).

    Tensors of whole numbers stay what they are.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    folder = newest_checkpoint(folder) or folder
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has neither a {CONFIG} nor a checkpoint")
    config = as_config(config_kind, read_json(folder / CONFIG))
    with torch.device("meta"):
        module = build(config)
    stored = read_tensors(folder / WEIGHTS)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    return fill(module, state, folder / WEIGHTS).eval()


def save_module(folder: str | Path, config: Any, module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Write ``config.json`` and ``model.safetensors``; ``dtype`` stores the weights in less precision.

    Raises:
        InputError: the folder is not writable, or is a training run's.
    """
    folder = check_no_run(Path(folder))
    write_tensors(folder / WEIGHTS, {name: t.to(dtype or t.dtype) for name, t in module.state_dict().items()})
    write_json(folder / CONFIG, dataclasses.asdict(config))
