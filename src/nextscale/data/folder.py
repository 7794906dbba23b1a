"""A folder with a sub-folder of images for each class, optionally inside train/ and val/."""

from __future__ import annotations

from pathlib import Path

from nextscale.data.names import TRAIN_NAMES, list_names, number_labels, pick_splits
from nextscale.data.source import ImageFiles, Splits
from nextscale.errors import InputError

ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))


def folder_splits(root: Path) -> Splits:
    """Open the training and validation images of a folder; see `find_splits` and `scan_folder`."""
    train, val = find_splits(root)
    folder = scan_folder(train)
    return folder, scan_folder(val, folder.class_names) if val else None


def find_splits(root: Path) -> tuple[Path, Path | None]:
    """Return the folder of training images, and that of validation images or None.

    A folder ``train`` is a split if it has sub-folders or if there is a folder ``val`` next to it. Without splits, all
    images of ``root`` are training images.

    Raises:
        InputError: the folder does not exist, or has ``val`` but no ``train``.
    """
    if not root.is_dir():
        raise InputError(f"no folder {root}")
    folders = {path.name: path for path in root.iterdir() if path.is_dir()}
    train, val = (folders[name] if name else None for name in pick_splits(folders))
    if train and (val or any(path.is_dir() for path in train.iterdir())):
        return train, val
    if val and len(folders) == 1:
        raise InputError(f"{root} has {val.name}/ but no train/: expected both or neither")
    return root, None


def scan_folder(folder: Path, class_names: tuple[str, ...] | None = None) -> ImageFiles:
    """Find all image files below a folder, in a fixed order. No file is opened.

    Classes are the sub-folders in alphabetical order, with all images below them. Images next to class folders are
    ignored. A folder with images and no sub-folders is one class.

    Args:
        class_names: classes of the training split; other classes are an error.

    Raises:
        InputError: the folder does not exist, has no images, has an unknown class or a class without images, or
            contains a data set in a sub-folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    class_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in class_folders:
        if any((path / name).is_dir() for name in TRAIN_NAMES):
            raise InputError(f"{folder} holds a data set in {path.name}/: expected {path} itself")
    if not class_folders and any(is_image(path) for path in folder.iterdir()):
        names, members = class_names or (folder.resolve().name,), [(0, folder)]
        if len(names) > 1:
            raise InputError(f"{folder} has no folders of classes, but training has {list_names(names)}")
    else:
        labels = [path.name for path in class_folders]
        names = class_names or tuple(labels)
        members = list(zip(number_labels(labels, names, folder), class_folders, strict=True))
    found = [(path, label) for label, member in members for path in sorted(member.rglob("*")) if is_image(path)]
    if not found:
        raise InputError(f"no images in {folder}: expected files such as {folder}/CLASS/NAME.jpg")
    if class_names is None and (empty := set(range(len(names))) - {label for _, label in found}):
        raise InputError(f"class {names[min(empty)]!r} in {folder} has no images")
    return ImageFiles(folder, tuple(p for p, _ in found), tuple(label for _, label in found), names)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.is_file()
