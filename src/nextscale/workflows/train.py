"""Train a transformer, and return it as a pipeline.

This module is not part of ``nextscale.training`` because previews need the sampler and the result is a `Pipeline`.
Training imports neither of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from nextscale.families.sources import family_of
from nextscale.imaging.images import grid, to_pil
from nextscale.pipeline import Pipeline
from nextscale.protocols import Transformer
from nextscale.sampling.sampler import sample
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.parallel import Strategy
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.setup import plan
from nextscale.training.transformer_setup import TextSource, TokenizerSource, run_transformer

COLUMNS = 10
FRAMES = 9
"""Most frames of a video in a preview."""


def train_transformer(
    data: str | Path,
    out: str | Path,
    tokenizer: TokenizerSource = "",
    preset: str | Path | TransformerRecipe = "starter",
    strategy: Strategy = "ddp",
    keep_classes: bool = False,
    text_encoder: TextSource = "",
    **changes: Any,
) -> Pipeline:
    """Train a transformer on the tokens of a trained tokenizer, and return both as a pipeline, with EMA weights.

    The same call again resumes an interrupted run, and ends with the same weights as an uninterrupted one. A call with
    other data, another tokenizer or another recipe for the same folder is refused.

    Example::

        tokenizer = ns.train_tokenizer("photos", "runs/tokenizer")
        pipe = ns.train_transformer("photos", "runs/transformer", tokenizer, depth=8, width=512)
        pipe("dress", seed=0).images[0].save("dress.png")

    Args:
        data: images as for `train_tokenizer`; a folder of videos for InfinityStar; or a cache that ``nextscale
            tokenize`` made.
        out: folder of the run: recipe, log, previews, checkpoints.
        tokenizer: a tokenizer, the folder of a run, or the name of a model. It may be left empty if ``data`` is a cache
            or ``init_from`` is given: these have a tokenizer. A bitwise tokenizer makes the transformer an Infinity,
            which is trained on captions; a tokenizer with a codebook makes it a VAR, trained on classes; a video
            tokenizer makes it an InfinityStar, trained on videos with captions.
        preset: for VAR "starter", "cifar10", "tiny-imagenet", "d16" ... "d36"; for Infinity "scenes", "layer12" ...
            "layer48", "2b", "8b"; for InfinityStar "clips", "star-192p" ... "star-720p"; a .json file with a recipe, or
            a recipe.
        strategy: with several processes (torchrun), each one holds all weights ("ddp") or a part of them ("fsdp").
        keep_classes: with ``init_from``, keep the classes of the initial model that the data does not have. Otherwise
            the trained model has the classes of the data only.
        text_encoder: for Infinity: an encoder such as `nextscale.conditioning.t5.T5TextEncoder`, or the folder or name
            of a T5, which is not trained. Its features of captions are kept in ``out``. By default that of
            ``init_from``, or google/flan-t5-xl.
        changes: fields of `TransformerRecipe` (``steps``, ``batch_size``, ``depth``, ...) and of `RunSettings`
            (``device``, ``init_from``, ``log_every``, ...).

    Raises:
        InputError: an unknown name, a value out of range, unusable data, no tokenizer or several different ones, or a
            folder that holds something else.
    """
    recipe, settings = plan(TRANSFORMERS, preset, changes, Path(out))
    run_transformer(
        str(data),
        Path(out),
        tokenizer,
        recipe,
        settings,
        strategy,
        preview_samples,
        keep_classes=keep_classes,
        text_encoder=text_encoder,
    )
    return Pipeline.from_pretrained(out, device=settings.device, text_encoder=text_encoder)


def preview_samples(tokenizer: ImageTokenizer, model: Transformer, conditions: Any) -> Image.Image:
    """Return a grid of images, or of frames of videos, of class labels or encoded prompts."""
    images = sample(tokenizer, model, conditions, settings=family_of(model).settings).images
    if images.ndim == 5:  # videos
        return video_rows(images)
    return grid(to_pil(images), columns=COLUMNS)


def video_rows(videos: Tensor) -> Image.Image:
    """Return a grid with a row of frames, evenly spaced in time, for each video. (B, 3, T, H, W) in [0, 1]."""
    frames = videos.shape[2]
    count = min(frames, FRAMES)
    chosen = [i * (frames - 1) // max(count - 1, 1) for i in range(count)]
    return grid(to_pil(videos[:, :, chosen].transpose(1, 2).flatten(0, 1)), columns=count)
