"""Features of many captions in a few files, for training. `nextscale tokenize` writes them.

``FOLDER/<fingerprint of the encoder>/PART/features-00000.safetensors`` contains ``features`` (l_1 + .. + l_n, T) of n
captions, ``lengths`` (n,) and ``hashes`` (n, 16) uint8 of the captions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nextscale.conditioning.feature_cache import CachedEncoder, TextEncoder, smallest
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError
from nextscale.io.tensor_files import is_tensor_file, read_headers, write_tensors
from nextscale.runtime.progress import say

DIGEST = 16
"""Bytes of the hash of a caption."""
CAPTIONS_AT_ONCE = 64


class Row(NamedTuple):
    """The place of a caption's features."""

    path: Path
    first: int
    length: int


class ShardedEncoder(CachedEncoder):
    """A text encoder that reads the features of captions from shards, and encodes the others.

    Args:
        encoder: encodes the captions that are not in the shards.
        folder: contains a folder of shards for each encoder, named by its fingerprint.

    Raises:
        InputError: the folder only has features of other encoders, or a shard is damaged.
    """

    def __init__(self, encoder: TextEncoder, folder: str | Path):
        super().__init__(encoder, folder)
        others = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        if others and self.fingerprint not in others:
            raise InputError(
                f"{self.folder} holds features of the text encoder {' and '.join(sorted(others))}, "
                f"not of {self.fingerprint}: tokenize the captions with this encoder, too"
            )
        self._files: dict[Path, Any] = {}
        self._rows = {
            digest: row
            for path in sorted((self.folder / self.fingerprint).rglob("features-*.safetensors"))
            for digest, row in read_rows(path)
        }

    def __len__(self) -> int:
        """Number of captions in the shards."""
        return len(self._rows)

    def _read(self, prompt: str) -> Tensor | None:
        row = self._rows.get(digest_of(prompt))
        if row is None:
            return None
        part = self._file(row.path).get_slice("features")
        return part[row.first : row.first + row.length].float()

    def _store(self, prompt: str, features: Tensor) -> None:
        """Shards are written by `write_feature_shard` only."""

    def _file(self, path: Path) -> Any:
        """Return an open file. Features are read when they are needed, as all of them may not fit into memory."""
        from safetensors import safe_open

        if path not in self._files:
            self._files[path] = safe_open(path, "pt")
        return self._files[path]


def feature_path(folder: Path, fingerprint: str, part: str, shard: int) -> Path:
    """Return the path of a shard of features."""
    return folder / fingerprint / part / f"features-{shard:05d}.safetensors"


def write_feature_shard(path: Path, captions: Sequence[str], encoder: TextEncoder) -> None:
    """Encode captions, and write their features, see `smallest`. A complete file is kept.

    Raises:
        InputError: a caption cannot be encoded, or the file cannot be written.
    """
    if is_tensor_file(path) or not captions:
        return
    captions = list(dict.fromkeys(captions))
    encoded = [
        encoder.encode(captions[i : i + CAPTIONS_AT_ONCE]).to("cpu") for i in range(0, len(captions), CAPTIONS_AT_ONCE)
    ]
    text = TextFeatures(torch.cat([each.features for each in encoded]), [n for each in encoded for n in each.lengths])
    hashes = torch.tensor([list(digest_of(caption)) for caption in captions], dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"features": smallest(text.features), "lengths": torch.tensor(text.lengths), "hashes": hashes}
    write_tensors(path, tensors)
    say(f"{path}: features of {len(captions)} captions")


def read_rows(path: Path) -> list[tuple[bytes, Row]]:
    """Return the hashes of the captions in a shard, and the places of their features.

    Raises:
        InputError: the shard is damaged.
    """
    from safetensors import safe_open

    headers = read_headers(path)
    shapes = {name: headers[name].shape for name in ("features", "lengths", "hashes") if name in headers}
    if len(shapes) == 3:
        with safe_open(path, "pt") as file:
            lengths, hashes = file.get_tensor("lengths"), file.get_tensor("hashes")
        if (
            lengths.ndim == 1
            and hashes.shape == (len(lengths), DIGEST)
            and shapes["features"][:1] == (int(lengths.sum()),)
        ):
            firsts = (lengths.cumsum(0) - lengths).tolist()
            rows = (Row(path, first, length) for first, length in zip(firsts, lengths.tolist(), strict=True))
            return list(zip((bytes(row) for row in hashes.tolist()), rows, strict=True))
    raise InputError(f"{path} does not hold features of captions, their lengths and hashes, but {shapes}")


def digest_of(caption: str) -> bytes:
    """Return the hash of a caption."""
    return hashlib.sha256(caption.encode()).digest()[:DIGEST]
