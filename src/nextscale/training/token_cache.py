"""Encode a data set into a cache of tokens. `nextscale.data.cache` has the file format."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nextscale.acceleration.ready import ready_tokenizer
from nextscale.conditioning.feature_cache import TextEncoder
from nextscale.data.cache import (
    IMAGES_IN_SHARD,
    TEXT,
    TOKENIZER,
    is_cache,
    read_index,
    shard_path,
    shards_of,
    start_cache,
)
from nextscale.data.cache_shards import parse_captions, read_captions, write_captions, write_shard
from nextscale.data.held_out import VAL_FRACTION, held_out_fraction
from nextscale.data.loader import ignore_signals
from nextscale.data.splits import absolute_name
from nextscale.errors import InputError
from nextscale.io.files import make_folder
from nextscale.io.lock import LOCK, locked_by_main
from nextscale.io.tensor_files import is_tensor_file
from nextscale.runtime.distributed import barrier, is_main, rank, world_size
from nextscale.runtime.progress import say
from nextscale.runtime.stop import resumable
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.tokenizer.video_tokenizer import VideoTokenizer
from nextscale.training.aspects import at_budget
from nextscale.training.cache_parts import CacheSettings, Encodable, Part, open_parts
from nextscale.training.setup import check_outside

SHARD_BYTES = 2**28
"""Largest size of a shard of latents."""


def make_cache(
    data: str,
    out: Path,
    tokenizer: ImageTokenizer | VideoTokenizer,
    settings: CacheSettings,
    device: torch.device,
    text_encoder: TextEncoder | None = None,
) -> None:
    """Encode a data set into a cache, or finish an incomplete cache. Several processes divide the files.

    With a bitwise tokenizer, the cache contains the captions of the images.

    Args:
        text_encoder: also encode the captions. A cache can have the features of several encoders.

    Raises:
        InputError: the data is unusable, or the folder holds something else, or a cache of other data or settings, or
            another command is writing to it.
    """
    settings.check()
    has_captions = tokenizer.config.quantizer == "bits"
    if settings.budget and not isinstance(tokenizer, VideoTokenizer):
        if not has_captions:
            raise InputError("a pixel budget is for bitwise tokenizers: this one has a codebook")
        tokenizer = at_budget(tokenizer, settings.budget)
    if text_encoder and not has_captions:
        raise InputError("a text encoder is for bitwise tokenizers: this one has a codebook")
    begun = begun_fraction(out)
    fraction = next(value for value in (settings.val_fraction, begun, VAL_FRACTION) if value is not None)
    sources, parts = open_parts(data, tokenizer, settings, fraction)
    if not is_cache(out) and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        raise InputError(f"{out} is not empty and not a token cache: choose another folder")
    check_outside(out, data)
    index = {
        "data": absolute_name(data),
        "class_names": list(sources[0].class_names),
        "images": {part.name: len(part.views) for part in parts},
        "tokenizer": tokenizer.fingerprint(),
        "tokens": tokenizer.schedule.num_tokens,
        "crops": settings.crops,
        "flip": settings.flip,
        "seed": settings.seed,
    }
    if has_captions:
        index |= {"bits": tokenizer.config.token_dim, "captions": True}
    if isinstance(tokenizer, VideoTokenizer):
        index |= {"latents": latent_shape(tokenizer), "images_in_shard": shard_size(tokenizer)}
    if settings.aspects:
        index["tokens"] = {part.name.partition("/")[2]: part.schedule.num_tokens for part in parts}
    held_out = held_out_fraction(sources[0])
    if begun not in (None, held_out):
        raise InputError(
            f"{out} holds a cache with val_fraction {begun:g}, not {held_out:g}: repeat its command to finish it, or "
            "choose another folder"
        )
    if held_out:  # 0 is not recorded, so that older runs accept the index of their cache
        index["val_fraction"] = held_out
    barrier()
    advice = f"finished files are kept in {out}. Repeat the same command to encode the other images."
    with locked_by_main(out), resumable(advice if is_main() else ""):
        if is_main():
            for note in (note for source in sources for note in source.notes):
                say(note)
            start_cache(out, index)
            tokenizer.save_pretrained(out / TOKENIZER)
        tokenizer = ready(tokenizer.to(device))
        for part in parts:
            make_shards(out, part, tokenizer, settings)
        barrier()
        if text_encoder:
            encode_captions(out, parts, text_encoder, shard_size(tokenizer))
            barrier()


def begun_fraction(out: Path) -> float | None:
    """Return the fraction of images that the cache in a folder holds out, or None if there is no cache."""
    return read_index(out).get("val_fraction", 0.0) if is_cache(out) else None


def ready(tokenizer: Any) -> Any:
    """Return a tokenizer that is ready to encode."""
    return tokenizer.eval() if isinstance(tokenizer, VideoTokenizer) else ready_tokenizer(tokenizer, torch.float32)


def latent_shape(tokenizer: VideoTokenizer) -> list[int]:
    """Return (D, N, h, w) of the latents of a video."""
    return [tokenizer.config.code_dim, tokenizer.schedule.latent_frames, *tokenizer.schedule.final_size]


def shard_size(tokenizer: Any) -> int:
    """Return the number of videos in a shard, of at most `SHARD_BYTES`; 0 for images."""
    if not isinstance(tokenizer, VideoTokenizer):
        return 0
    return min(IMAGES_IN_SHARD, max(1, SHARD_BYTES // (4 * math.prod(latent_shape(tokenizer)))))


def make_shards(out: Path, part: Part, tokenizer: Any, settings: CacheSettings) -> None:
    """Encode the missing shards of a part that this process is responsible for."""
    shards, views = shards_of(len(part.views), shard_size(tokenizer)), part.views
    for i in range(rank(), len(shards), world_size()):
        path = shard_path(out, part.name, i)
        if is_tensor_file(path):
            continue
        start = time.monotonic()
        examples = list(encode(part, shards[i], tokenizer, settings))
        empty = torch.zeros(0, views.views, *token_shape(tokenizer, part), dtype=token_type(tokenizer))
        tokens = torch.stack([tokens for tokens, *_ in examples]) if examples else empty
        make_folder(path.parent)
        if views.has_captions:
            write_captions(path, [example.captions for _, example in examples])
        write_shard(path, tokens, torch.tensor([example.label for _, example in examples], dtype=torch.int64))
        rate = len(shards[i]) / (time.monotonic() - start)
        say(f"{part.name} shard {i + 1}/{len(shards)}: {len(examples)} images, {rate:.1f} images/s")


def token_shape(tokenizer: Any, part: Part) -> tuple[int, ...]:
    """Return the shape of what is stored of an image or a video."""
    if isinstance(tokenizer, VideoTokenizer):
        return tuple(latent_shape(tokenizer))
    is_bits = tokenizer.config.quantizer == "bits"
    return (part.schedule.num_tokens, tokenizer.config.token_dim) if is_bits else (part.schedule.num_tokens,)


def token_type(tokenizer: Any) -> torch.dtype:
    """Return the type of what is stored of an image or a video."""
    if isinstance(tokenizer, VideoTokenizer):
        return torch.float32
    return torch.bool if tokenizer.config.quantizer == "bits" else torch.int64


def encoded(tokenizer: Any, images: Tensor, schedule: Any) -> Tensor:
    """Return the tokens (B, L) or bits (B, L, d) of images, or the latents (B, D, N, h, w) of videos."""
    if isinstance(tokenizer, VideoTokenizer):
        return tokenizer.encode_latents(images)
    return torch.cat(tokenizer.encode(images, schedule), dim=1)


def encode_captions(out: Path, parts: Sequence[Part], encoder: TextEncoder, size: int = 0) -> None:
    """Write the features of the captions of all shards, divided among the processes. Complete files are kept.

    Args:
        size: see `shards_of`.
    """
    from nextscale.conditioning.feature_shards import feature_path, write_feature_shard

    numbered = [(part.name, i) for part in parts for i in range(len(shards_of(len(part.views), size)))]
    for name, i in numbered[rank() :: world_size()]:
        captions = [text for line in read_captions(shard_path(out, name, i)) for text in parse_captions(line)]
        write_feature_shard(feature_path(out / TEXT, encoder.fingerprint, name, i), captions, encoder)


def encode(part: Part, indices: range, tokenizer: Any, settings: CacheSettings) -> Iterator[tuple[Tensor, Encodable]]:
    """Yield the tokens (views, L) or bits (views, L, d) of each image, or the latents of a video, and the image.

    Unreadable ones are reported.
    """
    device = next(tokenizer.parameters()).device
    loader = DataLoader(
        part.views,
        batch_size=settings.batch_size,
        sampler=indices,
        num_workers=settings.workers,
        collate_fn=list,
        worker_init_fn=ignore_signals,
    )
    for batch in loader:
        for example in batch:
            if example.unreadable:
                say(f"skipped: {example.unreadable[0]}")
        readable: list[Encodable] = [example for example in batch if not example.unreadable]
        if not readable:
            continue
        images = torch.cat([example.images for example in readable]).split(settings.batch_size)
        parts = [encoded(tokenizer, some.to(device), part.schedule) for some in images]
        tokens = torch.cat(parts).cpu().unflatten(0, (len(readable), -1))
        yield from zip(tokens, readable, strict=True)
