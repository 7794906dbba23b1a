"""Save a module to a folder as ``config.json`` and ``model.safetensors``, and load it again.

A training run can also be loaded. Its newest checkpoint contains the two files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.config import as_config, as_record
from nextscale.io.files import make_folder, read_json, read_tensors, write_json, write_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fill(module: ModuleT, state: Mapping[str, Tensor], source: object) -> ModuleT:
    """Assign the tensors of ``state`` to a module, without a copy, and return the module.

    A module on the meta device becomes a real one.

    Args:
        source: the file of ``state``, for messages.

    Raises:
        InputError: a name is missing or unknown, or a shape differs.
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
        raise InputError(f"{source} lacks {len(missing)} of {kind} (first: {min(missing)})")
    if unknown := state.keys() - expected.keys():
        raise InputError(f"{source} has {len(unknown)} tensors besides {kind} (first: {min(unknown)})")
    module.load_state_dict(dict(state), assign=True)
    return module


def check_no_run(folder: Path) -> Path:
    """Create a folder if it does not exist, and return it.

    Raises:
        InputError: the folder contains a training run, whose checkpoints would hide the new weights.
    """
    if newest_checkpoint(folder):
        raise InputError(f"{folder} holds a training run: choose another folder")
    return make_folder(folder)


def is_module_folder(folder: Path) -> bool:
    """Return whether the folder holds a module or a training run for `load_module`."""
    return (folder / CONFIG).is_file() or newest_checkpoint(folder) is not None


def load_module(folder: str | Path, config_kind: type[ConfigT], build: Callable[[ConfigT], ModuleT]) -> ModuleT:
    """Load a module from a folder, in eval mode.

    Floating-point weights are converted to float32. Integer tensors keep their type.

    Raises:
        InputError: the folder does not exist, or a file in it is missing, damaged or unsuitable.
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
    """Write ``config.json`` and ``model.safetensors``.

    Args:
        dtype: type of the stored weights; None keeps that of the module.

    Raises:
        InputError: the folder is not writable, or holds a training run.
    """
    folder = check_no_run(Path(folder))
    write_tensors(folder / WEIGHTS, {name: t.to(dtype or t.dtype) for name, t in module.state_dict().items()})
    write_json(folder / CONFIG, as_record(config))
