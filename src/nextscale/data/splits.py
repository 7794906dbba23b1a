"""Open a data set of any kind by its name."""

from __future__ import annotations

from pathlib import Path

from nextscale.data.cache import is_cache
from nextscale.data.dataset import Examples, ImageDataset
from nextscale.data.folder import folder_splits
from nextscale.data.held_out import hold_out
from nextscale.data.huggingface import PREFIX, huggingface_splits
from nextscale.data.scenes.name import SCENES, is_scenes
from nextscale.data.shards import is_shards, shard_splits
from nextscale.data.source import Splits
from nextscale.data.table import is_table, table_splits
from nextscale.errors import InputError


def open_splits(
    data: str | Path, size: tuple[int, int], seed: int, flip: bool = True, zoom: bool = False, val_fraction: float = 0
) -> tuple[Examples, Examples | None]:
    """Open the training and validation images of a data set at the size (H, W).

    The name is one that `find_sources` accepts, or ``scenes:PATH`` with emoji sprites, of which scenes are composed.
    Scenes are neither cropped nor mirrored, and ``val_fraction`` does not matter: validation has scenes of its own.

    Raises:
        InputError: the data set does not exist or is incomplete.
    """
    if is_scenes(str(data)):
        from nextscale.data.scenes.dataset import scene_splits  # on demand: few runs need it

        return scene_splits(str(data), size, seed)
    return open_image_splits(data, size, seed, flip, zoom, val_fraction)


def open_image_splits(
    data: str | Path, size: tuple[int, int], seed: int, flip: bool = True, zoom: bool = False, val_fraction: float = 0
) -> tuple[ImageDataset, ImageDataset | None]:
    """Open the training and validation images of image files, resized to (H, W); see `find_sources` and `hold_out`."""
    train, val = hold_out(find_sources(str(data)), val_fraction)
    held_out = None if val is None else ImageDataset(val, size, augment=False)
    return ImageDataset(train, size, seed, flip=flip, zoom=zoom), held_out


def find_sources(data: str) -> Splits:
    """Find the images of a data set by its name.

    ==========================  ============================================================
    ``hf:NAME``                 a Hugging Face data set, or a folder of ``save_to_disk``
    ``photos/labels.csv``       a table of files and labels; also a folder with a train.csv
    ``shards/{000..012}.tar``   WebDataset shards; also ``shards/*.tar``, or a folder of them
    anything else               a folder with a sub-folder of images for each class
    ==========================  ============================================================

    Raises:
        InputError: the data set does not exist or is incomplete.
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
    if data.startswith(PREFIX):
        return huggingface_splits(data)
    if is_table(Path(data)):
        return table_splits(Path(data))
    if is_shards(data):
        return shard_splits(data)
    return folder_splits(Path(data))


def absolute_name(data: str) -> str:
    """Return the name of a data set with an absolute path, valid in any working directory."""
    prefix = next((prefix for prefix in (PREFIX, SCENES) if data.startswith(prefix)), "")
    place = data.removeprefix(prefix)
    if prefix == PREFIX and not Path(place).is_dir():
        return data
    return prefix + str(Path(place).resolve())
