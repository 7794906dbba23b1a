"""Open a data set of any kind by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nextscale.data.buckets import BucketedImages
from nextscale.data.cache import is_cache
from nextscale.data.clips.name import CLIPS, is_clips
from nextscale.data.dataset import Examples, ImageDataset
from nextscale.data.folder import folder_splits
from nextscale.data.held_out import hold_out
from nextscale.data.huggingface import PREFIX, huggingface_splits
from nextscale.data.ratio_files import is_ratio_folder, ratio_splits
from nextscale.data.scenes.name import SCENES, is_scenes
from nextscale.data.shards import is_shards, shard_splits
from nextscale.data.source import Splits
from nextscale.data.table import is_table, table_splits
from nextscale.errors import InputError


def open_splits(
    data: str | Path,
    size: tuple[int, int],
    seed: int,
    flip: bool = True,
    val_fraction: float = 0,
    captions: bool = False,
) -> tuple[Examples, Examples | None]:
    """Open the training and validation images of a data set at the size (H, W).

    The name is one that `find_sources` accepts, or ``scenes:PATH`` with emoji sprites, of which scenes are composed.
    Scenes are neither cropped nor mirrored, and ``val_fraction`` does not matter: validation has scenes of its own.
    They always have captions.

    Args:
        captions: give each example a caption. Images without one are skipped.

    Raises:
        InputError: the data set does not exist or is incomplete.
    """
    if is_scenes(str(data)):
        from nextscale.data.scenes.dataset import scene_splits  # on demand: few runs need it

        return scene_splits(str(data), size, seed)
    return open_image_splits(data, size, seed, flip, val_fraction, captions)


def open_image_splits(
    data: str | Path,
    size: tuple[int, int],
    seed: int,
    flip: bool = True,
    val_fraction: float = 0,
    captions: bool = False,
    zoom: bool = False,
) -> tuple[ImageDataset, ImageDataset | None]:
    """Open the training and validation images of image files, resized to (H, W); see `find_sources` and `hold_out`.

    Args:
        zoom: see `ImageDataset`.
    """
    train, val = hold_out(find_sources(str(data), captions), val_fraction)
    held_out = None if val is None else ImageDataset(val, size, augment=False, captions=captions)
    return ImageDataset(train, size, seed, flip=flip, zoom=zoom, captions=captions), held_out


def open_buckets(
    data: str | Path, sizes: Mapping[float, tuple[int, int]], seed: int, flip: bool = False, val_fraction: float = 0
) -> tuple[BucketedImages, BucketedImages | None]:
    """Open training and validation images with captions at their own aspect ratios; see `BucketedImages`.

    Args:
        sizes: (H, W) in pixels of each template.

    Raises:
        InputError: see `find_sources`; or the images are scenes.
    """
    if is_scenes(str(data)):
        raise InputError(f"scenes are square: {data} has no other aspect ratios")
    train, val = hold_out(find_sources(str(data), captions=True), val_fraction)
    held_out = None if val is None else BucketedImages(val, sizes, augment=False, captions=True)
    return BucketedImages(train, sizes, seed, flip=flip, captions=True), held_out


def find_sources(data: str, captions: bool = False) -> Splits:
    """Find the images of a data set by its name.

    ==========================  ============================================================  ====================
    ``hf:NAME``                 a Hugging Face data set, or a folder of ``save_to_disk``      a column
    ``photos/labels.csv``       a table of files (.csv, .tsv or .jsonl); also a folder with   columns
                                a train.csv
    ``shards/{000..012}.tar``   WebDataset shards; also ``shards/*.tar``, or a folder of      KEY.txt or KEY.json
                                them
    ``official/``               a folder with files such as ``1.000_000002500.jsonl``, as    long and short ones
                                the official Infinity code reads them
    anything else               a folder with a sub-folder of images for each class           NAME.txt
    ==========================  ============================================================  ====================

    The last column is the place of captions. The images of a table or a Hugging Face data set need no labels if they
    have captions.

    Args:
        captions: open the captions, too: the result is a pair of `CaptionedSource`.

    Raises:
        InputError: the data set does not exist, is incomplete, or has no captions.
    """
    if not data.strip():
        raise InputError("no data: expected a folder, a .csv table, .tar shards, or hf:NAME")
    if is_cache(data):
        raise InputError(f"{data} is a token cache, which only train transformer accepts: expected images")
    if is_scenes(data):
        raise InputError(
            f"{data} is rendered for training, and this command needs image files: expected a folder, which "
            f"python -m nextscale.data.scenes {data.removeprefix(SCENES)} --out FOLDER writes"
        )
    if is_clips(data):
        raise InputError(f"{data} is for video models, and this command needs images")
    if data.startswith(PREFIX):
        return huggingface_splits(data, captions)
    if is_ratio_folder(Path(data)):
        return ratio_splits(Path(data))
    if is_table(Path(data)):
        return table_splits(Path(data), captions)
    if is_shards(data):
        return shard_splits(data, captions)
    return folder_splits(Path(data), captions)


def absolute_name(data: str) -> str:
    """Return the name of a data set with an absolute path, valid in any working directory."""
    prefix = next((prefix for prefix in (PREFIX, SCENES, CLIPS) if data.startswith(prefix)), "")
    place = data.removeprefix(prefix)
    if prefix == PREFIX and not Path(place).is_dir():
        return data
    return prefix + str(Path(place).resolve())
