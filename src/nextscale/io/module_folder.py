"""Save a module to a folder as ``config.json`` and ``model.safetensors``, and load it again.

A training run is such a folder too: its newest checkpoint holds the two files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.config import as_config
from nextscale.io.files import make_folder, read_json, read_tensors, write_json, write_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

ConfigT = TypeVar("ConfigT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def fill(module: ModuleT, state: Mapping[str, Tensor], source: object) -> ModuleT:
    """Assign the tensors of ``state`` to a module, without a copy, and return the module.

    A module on the meta device becomes a real one.

    Args:
        source: the file that ``state`` comes from, for messages.

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


def check_no_run(folder: Path) -> Path:
    """Return the folder, created if it is missing.

    Raises:
        InputError: it holds a training run, whose weights would no longer be the newest.
    """
    if newest_checkpoint(folder):
        raise InputError(f"{folder} holds a training run: choose another folder")
    return make_folder(folder)


def is_module_folder(folder: Path) -> bool:
    """Return whether the folder holds a module or a training run for `load_module`."""
    return (folder / CONFIG).is_file() or newest_checkpoint(folder) is not None


def load_module(folder: str | Path, config_kind: type[ConfigT], build: Callable[[ConfigT], ModuleT]) -> ModuleT:
    """Load a module from a folder, in eval mode.

    Floating-point weights become float32, whatever precision the file has; integer tensors keep their type.

    Raises:
        InputError: no such folder, or missing, damaged or unsuitable files in it.
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
        dtype: of the stored weights; None keeps that of the module.

    Raises:
        InputError: the folder is not writable, or holds a training run.
    """
    folder = check_no_run(Path(folder))
    write_tensors(folder / WEIGHTS, {name: t.to(dtype or t.dtype) for name, t in module.state_dict().items()})
    write_json(folder / CONFIG, dataclasses.asdict(config))
