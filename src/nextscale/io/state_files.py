"""Read weight files of pretrained networks, such as DINO and LPIPS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from nextscale.errors import InputError
from nextscale.io.pth import as_state, read_pth
from nextscale.io.tensor_files import read_tensors


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file or a `torch.save` file, as float32.

    Raises:
        InputError: the file does not exist, is damaged, or has other content.
    """
    return as_state(read_tensors(path) if path.suffix == ".safetensors" else read_pth(path), path)


def expect(state: Mapping[str, Tensor], names: Iterable[str], path: Path, layout: str) -> None:
    """Raise InputError if a state lacks one of the names that identify its layout."""
    for name in names:
        if name not in state:
            held = f"{min(state)} and {len(state) - 1} others" if state else "nothing"
            raise InputError(f"{path} holds {held}, but no {name}: expected {layout}")
