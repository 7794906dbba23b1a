"""What tells weights from others at a glance."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

PIECES, PIECE = 16, 1024
"""Of a tensor of more numbers than this makes, so many pieces of so many numbers are looked at, evenly spread."""


def quick_fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits of the SHA-256 of all small tensors and of pieces of the large ones, with their names.

    Training changes all of a matrix, so pieces suffice, and a model of gigabytes takes a moment.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(pieces(tensor.detach()).cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def pieces(tensor: Tensor) -> Tensor:
    """The numbers of a small tensor, or pieces of a large one, in one row."""
    row = tensor.reshape(-1)
    last = len(row) - PIECE
    if len(row) <= PIECES * PIECE:
        return row
    return torch.cat([row[(start := i * last // (PIECES - 1)) : start + PIECE] for i in range(PIECES)])
