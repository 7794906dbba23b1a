"""``nextscale info``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from nextscale.acceleration.precision import Precision
from nextscale.analysis.flops import PROMPT_TOKENS, ModelCost, count_flops
from nextscale.analysis.memory import GB, estimate_memory
from nextscale.cli.models import Dtype, MemoryFlags, ModelOptions
from nextscale.conditioning.t5_sizes import find_sizes
from nextscale.errors import InputError
from nextscale.families.sources import find_family
from nextscale.runtime.device import DTYPES
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape
from nextscale.scales.video_shape import FPS


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Print a model's sizes, schedule, parameters, FLOPs per image and, for models that take prompts, the memory they
    need.

    For the official models (d16 ... d36, infinity-2b, infinitystar-480p ...), no weights are downloaded.

    Example: nextscale info starter

    Example: nextscale info infinity-2b --budget 1M --dtype bfloat16 --num-images 4

    Example: nextscale info infinitystar-480p --seconds 10 --dtype bfloat16 --device cuda
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """Model to show, in the same form as --model."""
    dtype: Dtype = "float32"
    """Precision for which the size of the weights in MB and the memory are shown."""
    num_images: int = 1
    """Number of images per batch for which the memory is shown."""
    memory: MemoryFlags = field(default_factory=MemoryFlags)
    """Show the memory with these flags of "sample", for text-to-image models."""
    shape: ImageShape = ANY_SHAPE
    """The shape of the images, for text-to-image models."""


def run(options: Options) -> None:
    if options.name and options.model != "starter":
        raise InputError(f"expected one model, got two: {options.name} and {options.model}")
    if options.num_images < 1:
        raise InputError(f"num-images must be at least 1, not {options.num_images}")
    source = options.name or options.model
    found = find_family(source)
    if found and not Path(source).exists():
        family, key = found
        published = family.published[key]
        scores = f"FID {published.fid}, Inception Score {published.inception_score} as published"
        scores = scores if published.fid else "without a published FID"
        scores = scores if family.media == "image" else f"a model of {family.title}"
        described = describe(published.tokenizer, published.model, options, family.text_encoder)
        print(f"{source}, {scores}")
        print(described)
        return
    pipeline = replace(options, model=source).load()
    described = describe(pipeline.tokenizer.config, pipeline.model.config, options, pipeline.text_encoder)
    if pipeline.family.takes == "class":
        print(f"classes          {len(pipeline.class_names)}: {', '.join(pipeline.class_names[:10])}", end="")
        print(", ..." if len(pipeline.class_names) > 10 else "")
    print(described)


def describe(tokenizer: Any, model: Any, options: Options, text_encoder: str = "") -> str:
    """Describe a model from its configurations.

    Args:
        text_encoder: folder or name of the text encoder of a text-to-image model.
    """
    is_of_text = hasattr(model, "text_width")
    schedule = options.shape.schedule(tokenizer.schedule, tokenizer.image_size)
    work = count_flops(tokenizer, model, schedule)
    is_of_videos = hasattr(schedule, "seconds")
    height, width = tokenizer.image_size_of(schedule)
    side = tokenizer.downsampling
    lines = [f"weights          {megabytes(work, options.dtype):.1f} MB in {options.dtype}"]
    if schedule.frames > 1:
        lines += [f"videos           {schedule.frames} frames of {height} x {width} pixels, {FPS} per second; "]
        lines[-1] += f"a token of the last scale covers {side} x {side}"
    else:
        lines += [f"images           {height} x {width} pixels; a token of the last scale covers {side} x {side}"]
    lines += [f"scales           {len(schedule.sizes)}: {schedule}"]
    parameters = f"{work.tokenizer_parameters:.2f} M tokenizer, {work.transformer_parameters:.2f} M transformer"
    flops = f"{short(work.sampling)} GFLOP transformer ({short(2 * work.sampling)} with guidance), "
    flops += f"{short(work.decoder)} decoder, {short(work.encoder)} encoder"
    sizes = find_sizes(text_encoder) if is_of_text else None
    if sizes:
        parameters += f", {sizes.parameters / 1e6:.2f} M text encoder"
        flops += f", {short(sizes.gflop(min(PROMPT_TOKENS, model.text_rows)))} text encoder"
    if is_of_videos:
        clips = ", ".join(map(str, schedule.clips))
        lines += [f"visits           {len(schedule.visits)}, in clips of {clips} latent frames"]
        lines += [f"tokens           {schedule.num_tokens} of {model.semantic_bits} or {model.bits} bits; "]
        lines[-1] += f"{sum(schedule.tokens_per_visit)} over all visits"
        lines += [f"transformer      depth {model.depth}, width {model.width}, {model.heads} heads of queries, "]
        lines[-1] += f"{model.kv_heads} of keys and values, the text as a prefix"
    elif is_of_text:
        lines += [f"tokens           {schedule.num_tokens} of {model.bits} bits"]
        lines += [f"transformer      depth {model.depth}, width {model.width}, {model.heads} heads, shared AdaLN, "]
        lines[-1] += "cosine attention, cross-attention to the text"
    if is_of_text:
        lines += [f"text             features of width {model.text_width}, at most {model.text_rows} tokens"]
        lines[-1] += encoder_of(model, text_encoder)
        flops += f", for a prompt of {min(PROMPT_TOKENS, model.text_rows)} tokens"
        lines += [memory_line(tokenizer, model, options, schedule)]
        if sizes:
            kept = sizes.parameters * DTYPES[options.dtype].itemsize / GB
            if options.memory.offload:
                lines[-1] += f"; {kept:.2f} for the text encoder, before the transformer is prepared"
            else:
                lines[-1] += f"; {kept:.2f} more for the text encoder, unless --unload-text is given"
    else:
        lines += [f"tokens           {schedule.num_tokens}; codebook of {tokenizer.codebook_size} vectors "]
        lines[-1] += f"of dimension {tokenizer.code_dim}"
        lines += [f"transformer      depth {model.depth}, width {model.width}, {model.heads} heads, "]
        lines[-1] += f"{'shared ' if model.shared_adaln else ''}AdaLN, "
        lines[-1] += f"{'cosine' if model.l2_norm else 'plain'} attention"
    per = "FLOPs per video" if schedule.frames > 1 else "FLOPs per image"
    return "\n".join([f"parameters       {parameters}", *lines, f"{per}  {flops}"])


def encoder_of(model: Any, text_encoder: str) -> str:
    """Describe where the features of texts come from, as the end of a line."""
    if getattr(model, "words", None) is None:
        return f", from {text_encoder}" if text_encoder else "; no text encoder"
    words = model.words
    blocks = "1 block" if words.depth == 1 else f"{words.depth} blocks"
    return f", from the model's own encoder: {len(words.vocabulary):,} {words.kind}, {blocks}, {words.heads} heads"


def megabytes(work: ModelCost, dtype: str) -> float:
    """Return the size of the weights of tokenizer and transformer."""
    return (work.tokenizer_parameters + work.transformer_parameters) * DTYPES[dtype].itemsize


def memory_line(tokenizer: Any, model: Any, options: Options, schedule: Any) -> str:
    """Describe the memory of sampling with guidance."""
    device = torch.device("cuda" if options.device.startswith("cuda") else "cpu")
    precision = Precision(DTYPES[options.dtype])
    of_call = {"schedule": schedule, "num_images": options.num_images, **vars(options.memory)}
    needed = estimate_memory(tokenizer, model, precision, device, **of_call)
    images = (
        f"{options.num_images} {'video' if schedule.frames > 1 else 'image'}{'s' if options.num_images > 1 else ''}"
    )
    when = f"after {'transformer and cache are' if options.memory.offload else 'the cache is'} freed"
    if schedule.frames > 1 and not options.memory.offload:
        when = "with the cache"
    return (
        f"memory           {needed.peak / GB:.2f} GB for {images} in {options.dtype} on {device.type}, with guidance: "
        f"{needed.weights / GB:.2f} transformer, {needed.decoder / GB:.2f} decoder, {needed.cache / GB:.2f} KV cache, "
        f"{needed.activations / GB:.2f} its activations; decoding {needed.decoding / GB:.2f}, {when}"
    )


def short(gflop: float) -> str:
    """Format a number with one digit after the point, or with two significant digits if it is small."""
    return f"{gflop:.1f}" if gflop >= 0.05 else f"{gflop:.2g}"
