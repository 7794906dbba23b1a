"""The files of a token cache: tokens and labels of some images, and their captions.

``tokens-00000.safetensors`` contains ``labels`` (n,) and the tokens of n images: ``tokens`` (n, views, L) integers, or
``bits`` (n, views, bytes), the L x d bits of each view packed into bytes, the first bit highest. For videos it contains
``latents`` (n, views, D, N, h, w) float32, from which bits are made in training.
``captions-00000.jsonl`` has a line for each image: a list of captions, or the parts of a `LongAndShort`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextscale.data.content import Latents, Tokens
from nextscale.data.long_caption import LongAndShort
from nextscale.errors import InputError
from nextscale.io.files import atomic_file
from nextscale.io.json_text import parse_json
from nextscale.io.tensor_files import read_tensors, write_tensors

LATENT_AXES = 6
SMALL = torch.iinfo(torch.int16).max


class TokenFormat(NamedTuple):
    """The shape of the tokens of an image."""

    length: Any
    """L, as the index of the cache says."""
    bits: Any = 0
    """d, or 0 for indices of codes."""
    has_captions: bool = False
    latents: tuple[int, ...] = ()
    """(D, N, h, w) of videos that are stored as latents."""

    @property
    def bytes(self) -> int:
        """Bytes of an image's packed bits."""
        return -(-self.length * self.bits // 8)


class Shard(NamedTuple):
    """The images of a shard."""

    tokens: Tensor
    """(n, views, L) integers, (n, views, bytes) packed bits, or (n, views, D, N, h, w) latents."""
    labels: Tensor
    """(n,)."""
    captions: Sequence[str]
    """Lines of the file of captions; none without captions."""
    format: TokenFormat

    @property
    def views(self) -> int:
        return self.tokens.shape[1]

    def read(self, row: int, view: int) -> Tokens | Latents:
        """Return the tokens of an image, (L,) int64 or (L, d) bool, or the latents of a video."""
        if self.format.latents:
            return Latents(self.tokens[row, view])
        return Tokens(self.read_tokens(row, view))

    def read_tokens(self, row: int, view: int) -> Tensor:
        """Return the tokens of an image, (L,) int64 or (L, d) bool."""
        tokens = self.tokens[row, view]
        return unpack(tokens, self.format) if self.format.bits else tokens.long()

    def read_captions(self, row: int) -> Sequence[str]:
        """Return the captions of an image; see `nextscale.data.captions.pick`.

        Raises:
            InputError: the line is damaged.
        """
        return parse_captions(self.captions[row]) if self.captions else ()


def write_shard(path: Path, tokens: Tensor, labels: Tensor) -> None:
    """Write tokens (n, views, L), bits (n, views, L, d) bool or latents (n, views, D, N, h, w), and labels (n,).

    Tokens are stored as int16 if they fit, else as int32. Bits are packed.
    """
    if tokens.ndim == LATENT_AXES:
        content = {"latents": tokens.float().contiguous()}
    elif tokens.dtype == torch.bool:
        content = {"bits": pack(tokens)}
    else:
        kind = torch.int16 if tokens.numel() == 0 or tokens.max() <= SMALL else torch.int32
        content = {"tokens": tokens.to(kind)}
    write_tensors(path, {**content, "labels": labels.long()})


def pack(bits: Tensor) -> Tensor:
    """Pack the bits of each view. (n, views, L, d) bool -> (n, views, bytes) uint8."""
    return torch.from_numpy(np.packbits(bits.flatten(2).numpy(), axis=-1))


def unpack(packed: Tensor, format: TokenFormat) -> Tensor:
    """Return the bits of an image. (bytes,) uint8 -> (L, d) bool."""
    count = format.length * format.bits
    bits = torch.from_numpy(np.unpackbits(packed.numpy(), count=count)).bool()
    return bits.view(format.length, format.bits)


def captions_path(shard: Path) -> Path:
    """Return the file with the captions of a shard."""
    return shard.with_name(shard.name.replace("tokens-", "captions-")).with_suffix(".jsonl")


def write_captions(shard: Path, captions: Sequence[Sequence[str]]) -> None:
    """Write the captions of the images of a shard."""
    records = (record_of(each) if isinstance(each, LongAndShort) else list(each) for each in captions)
    with atomic_file(captions_path(shard)) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records))


def record_of(captions: LongAndShort) -> dict[str, str]:
    """Return the record of a long and a short caption."""
    return {"long": captions.long, "short": captions.short, "kind": captions.kind}


def read_captions(shard: Path) -> list[str]:
    """Return the lines of the captions of a shard.

    Raises:
        InputError: the file is missing.
    """
    try:
        return captions_path(shard).read_text().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the captions {captions_path(shard)} ({error})") from error


def parse_captions(line: str) -> Sequence[str]:
    """Return the captions of a line.

    Raises:
        InputError: it is damaged.
    """
    try:
        record = parse_json(line)
    except ValueError:
        record = None
    texts = list(record.values()) if isinstance(record, dict) else record
    known = isinstance(record, list) or (isinstance(record, dict) and set(record) == {"long", "short", "kind"})
    if not known or not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"a token cache has damaged captions: {line[:60]!r}")
    return LongAndShort(**record) if isinstance(record, dict) else texts


def read_shard(path: Path, format: TokenFormat) -> Shard:
    """Read a shard.

    Raises:
        InputError: a file is missing or damaged, or its tokens have another shape.
    """
    content = read_tensors(path)
    if format.latents:
        return read_latents(path, content, format)
    name, last = ("bits", format.bytes) if format.bits else ("tokens", format.length)
    tokens, labels = content.get(name), content.get("labels")
    expected = f"{name} (n, views, {last}) and labels (n,)"
    if tokens is None or labels is None or tokens.ndim != 3 or labels.shape != tokens.shape[:1]:
        raise InputError(f"{path} does not hold {expected}")
    if any(tensor.is_floating_point() or tensor.is_complex() for tensor in (tokens, labels)):
        raise InputError(f"{path} holds {tokens.dtype} and {labels.dtype}, expected integers")
    if format.bits and tokens.dtype != torch.uint8:
        raise InputError(f"{path} holds bits as {tokens.dtype}, expected torch.uint8")
    if tokens.shape[2] != last:
        raise InputError(f"{path} holds {name} of shape {tuple(tokens.shape)}, expected {expected}")
    return Shard(tokens, labels, captions_of(path, len(labels), format), format)


def read_latents(path: Path, content: dict[str, Tensor], format: TokenFormat) -> Shard:
    """Return a shard of latents; see `read_shard`."""
    latents, labels = content.get("latents"), content.get("labels")
    expected = f"latents (n, views, {', '.join(map(str, format.latents))}) and labels (n,)"
    if latents is None or labels is None or latents.ndim != LATENT_AXES or labels.shape != latents.shape[:1]:
        raise InputError(f"{path} does not hold {expected}")
    if latents.dtype != torch.float32 or labels.dtype != torch.int64 or tuple(latents.shape[2:]) != format.latents:
        raise InputError(f"{path} holds latents of {latents.dtype} {tuple(latents.shape)}, expected {expected}")
    return Shard(latents, labels, captions_of(path, len(labels), format), format)


def captions_of(path: Path, count: int, format: TokenFormat) -> Sequence[str]:
    """Return the lines of the captions of a shard; none without captions.

    Raises:
        InputError: there are not as many as images.
    """
    captions = read_captions(path) if format.has_captions else []
    if format.has_captions and len(captions) != count:
        raise InputError(f"{captions_path(path)} has the captions of {len(captions)} images, expected {count}")
    return captions
