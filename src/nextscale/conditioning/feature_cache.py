"""Features of prompts on disk, so that a prompt is encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.io.fingerprint import tensors_fingerprint
from nextscale.io.tensor_files import read_tensors, write_tensors
from nextscale.runtime.progress import say


class TextEncoder(Protocol):
    """See `nextscale.conditioning.t5.T5TextEncoder`."""

    @property
    def fingerprint(self) -> str:
        """A name for a folder that identifies everything that the features depend on, besides the prompt."""
        ...

    def check(self, prompts: Sequence[str], /) -> None:
        """Raise InputError for prompts that cannot be encoded."""
        ...

    def encode(self, prompts: Sequence[str], /) -> TextFeatures: ...


def content_of(encoder: TextEncoder) -> str:
    """Return what identifies an encoder in provenance. For a T5, the content of its files, without its dtype and its
    largest number of tokens, which depend on the device and the model. Empty for an encoder that is a part of a model,
    whose weights identify it."""
    content = getattr(encoder, "content", None)
    return encoder.fingerprint if content is None else content


def notes_of(encoder: TextEncoder, prompts: Sequence[str], negative: str = "") -> tuple[str, ...]:
    """Return sentences about what an encoder cannot follow in prompts, such as unknown words or texts that are cut.
    Encoders without a method ``notes`` follow everything.

    Args:
        negative: the negative prompt.
    """
    notes = getattr(encoder, "notes", None)
    return notes(prompts, negative) if notes else ()


class CachedEncoder:
    """A text encoder that stores the features of each prompt in a file, and reads them when the prompt comes again.

    Processes and threads may share a folder. Incomplete or damaged files are replaced. If the folder cannot be written
    to, features are not stored.

    Args:
        encoder: encodes the prompts that are not stored.
        folder: stores features as ``<fingerprint of the encoder>/<2 digits>/<hash of the prompt>.safetensors``.
        tell: called with one sentence when features cannot be stored, once.
    """

    def __init__(self, encoder: TextEncoder, folder: str | Path, tell: Callable[[str], None] = say):
        self.encoder, self.folder, self.tell = encoder, Path(folder), tell
        self.source = getattr(encoder, "source", "")
        self._complained = False

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder."""
        return self.encoder.fingerprint

    @property
    def content(self) -> str:
        """See `content_of`."""
        return content_of(self.encoder)

    def check(self, prompts: Sequence[str]) -> None:
        """See the encoder."""
        self.encoder.check(prompts)

    def notes(self, prompts: Sequence[str], negative: str = "") -> tuple[str, ...]:
        """See `notes_of`."""
        return notes_of(self.encoder, prompts, negative)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Return the features of prompts, on the CPU, bit for bit those of the encoder.

        Raises:
            InputError: the encoder refuses the prompts.
        """
        self.check(prompts)
        found = {prompt: self._read(prompt) for prompt in dict.fromkeys(prompts)}
        if missing := [prompt for prompt, features in found.items() if features is None]:
            for prompt, features in zip(missing, self.encoder.encode(missing).to("cpu").split(), strict=True):
                found[prompt] = features
                self._store(prompt, features)
        return TextFeatures.of([features for prompt in prompts if (features := found[prompt]) is not None])

    def _read(self, prompt: str) -> Tensor | None:
        """Return the stored features (l, T) of a prompt, or None if there are none."""
        return read_features(self.path(prompt))

    def path(self, prompt: str) -> Path:
        """Return the file for the features of a prompt."""
        key = hashlib.sha256(prompt.encode()).hexdigest()[:32]
        return self.folder / self.fingerprint / key[:2] / f"{key}.safetensors"

    def _store(self, prompt: str, features: Tensor) -> None:
        try:
            write_features(self.path(prompt), features)
        except InputError as error:  # a full disk, or a folder that only others may write to
            if not self._complained:
                self._complained = True
                self.tell(f"note: the features of prompts are not stored: {error}")


def write_features(path: Path, features: Tensor) -> None:
    """Write the features (l, T) of a prompt, with their checksum; see `smallest`."""
    checksum = torch.tensor(list(bytes.fromhex(tensors_fingerprint([features]))), dtype=torch.uint8)
    write_tensors(path, {"features": smallest(features), "checksum": checksum})


def smallest(features: Tensor) -> Tensor:
    """Return features as bfloat16 or float16 if that loses nothing, else unchanged."""
    halves = (features.to(dtype) for dtype in (torch.bfloat16, torch.float16))
    return next((half for half in halves if torch.equal(half.float(), features)), features)


def read_features(path: Path) -> Tensor | None:
    """Return the features (l, T) float32 of a file, or None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        stored = read_tensors(path)
        features = stored["features"].float()
        intact = bytes(stored["checksum"].tolist()).hex() == tensors_fingerprint([features])
    except (InputError, KeyError, ValueError, TypeError):
        return None
    return features if intact and features.ndim == 2 and len(features) else None
