"""A folder with a sub-folder of images for each class, optionally inside train/ and val/.

The caption of ``NAME.jpg`` is the whole content of ``NAME.txt`` beside it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from nextscale.data.captions import CaptionedImages, TextFiles
from nextscale.data.names import TRAIN_NAMES, list_names, number_labels, pick_splits
from nextscale.data.source import ImageFiles, Splits
from nextscale.data.table import tables_in
from nextscale.errors import InputError
from nextscale.imaging.image_files import Skipped, images_below, is_hidden, list_folder, readable_name

CAPTION = ".txt"


def folder_splits(root: Path, captions: bool = False) -> Splits:
    """Open the training and validation images of a folder; see `find_splits` and `scan_folder`.

    Args:
        captions: open the captions, too.

    Raises:
        InputError: none of the images has a caption; see also `find_splits` and `scan_folder`.
    """
    train, val = find_splits(root)
    folder = scan_folder(train, captions=captions)
    if train != root:
        skipped = Skipped(root)
        for path in visible_folders(root):
            if path not in (train, val):
                skipped.add(f"folders beside {train.name}", path)
        folder = replace(folder, notes=skipped.notes() + folder.notes)
    held_out = scan_folder(val, folder.class_names, captions) if val else None
    if captions:
        return with_captions(folder), with_captions(held_out) if held_out else None
    return folder, held_out


def with_captions(images: ImageFiles) -> CaptionedImages:
    """Return images with the captions in the text files beside them.

    Raises:
        InputError: there are none.
    """
    texts = tuple(path.with_suffix(CAPTION) for path in images.paths)
    if not any(os.path.isfile(path) for path in texts):
        tables = sorted(tables_in(images.folder).values())
        named = f", or a table as the data, such as {tables[0]}" if tables else ""
        expected = f"expected a file such as {texts[0]} beside {images.paths[0]}{named}"
        raise InputError(f"no captions in {images.root}: {expected}")
    return CaptionedImages(images, TextFiles(texts))


def find_splits(root: Path) -> tuple[Path, Path | None]:
    """Return the folder of training images, and that of validation images or None.

    A folder ``train`` is a split if it has sub-folders or if there is a folder ``val`` next to it. Without splits, all
    images of ``root`` are training images.

    Raises:
        InputError: the folder does not exist or cannot be opened, or has ``val`` but no ``train``.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}")
    folders = {path.name: path for path in visible_folders(root)}
    train, val = (folders[name] if name else None for name in pick_splits(folders))
    if train and (val or visible_folders(train)):
        return train, val
    if val and len(folders) == 1:
        raise InputError(f"{root} has {val.name}/ but no train/: expected both or neither")
    return root, None


def visible_folders(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder without those that `is_hidden` names."""
    try:
        return [path for path in folder.iterdir() if not is_hidden(path.name) and os.path.isdir(path)]
    except OSError as error:
        raise InputError(f"cannot open the folder {folder}: {error.strerror}") from error


def scan_folder(folder: Path, class_names: tuple[str, ...] | None = None, captions: bool = False) -> ImageFiles:
    """Find all image files below a folder, in a fixed order. No file is opened.

    Classes are the sub-folders in alphabetical order, with all images below them. Images next to class folders are
    skipped. A folder with images and no sub-folders with images is one class. The notes of the result name all files
    and folders that are skipped; see `nextscale.imaging.image_files`.

    Args:
        class_names: classes of the training split; other classes are an error.
        captions: text files are captions: the notes name those without an image only.

    Raises:
        InputError: the folder does not exist or cannot be opened, has no images, has an unknown class, or contains a
            data set in a sub-folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    skipped = Skipped(folder, CAPTION if captions else "")
    try:
        folders, images = list_folder(folder, skipped)
    except OSError as error:
        raise InputError(f"cannot open the folder {folder}: {error.strerror}") from error
    members = images_of_classes(folder, folders, skipped)
    if members:
        for path in images:
            skipped.add("images beside the folders of classes", path)
        names = class_names or tuple(members)
    elif images:
        names = class_names or (readable_name(folder.resolve().name),)
        if len(names) > 1:
            raise InputError(f"{folder} has no folders of classes, but training has {list_names(names)}")
        members = dict.fromkeys(names, images)
    else:
        expected = f"no images in {folder}: expected files such as {folder}/CLASS/NAME.jpg"
        raise InputError("; ".join([expected, *skipped.notes()]))
    numbers = number_labels(list(members), names, folder)
    paths = tuple(path for found in members.values() for path in found)
    described = {path.with_suffix(CAPTION) for path in paths}
    for path in skipped.captions:
        if path not in described:
            skipped.add("captions without an image", path)
    labels = tuple(label for label, found in zip(numbers, members.values(), strict=True) for _ in found)
    return ImageFiles(folder, paths, labels, names, folder, skipped.notes())


def images_of_classes(folder: Path, folders: list[Path], skipped: Skipped) -> dict[str, list[Path]]:
    """Return the images of each class folder by the name of the class. Class folders without images are skipped."""
    for path in folders:
        if any(os.path.isdir(path / name) for name in TRAIN_NAMES):
            raise InputError(f"{folder} holds a data set in {path.name}/: expected {path} itself")
    above = (folder, *folder.resolve().parents)
    members: dict[str, list[Path]] = {}
    for path in folders:
        if found := images_below(path, skipped, above):
            members.setdefault(readable_name(path.name), []).extend(found)
        else:
            skipped.add("classes without images", path)
    return members
