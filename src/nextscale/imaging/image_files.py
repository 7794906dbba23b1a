"""Find the image files below a folder: which names count, and a record of what is skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from nextscale.errors import InputError

ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
SYSTEM = frozenset(
    ("__macosx", "@eadir", "@synoresource", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "lost+found")
) | {"system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""Names of files and folders, in lower case, that operating systems and network drives create."""
HIDDEN, OTHERS = "hidden and system files", "files that do not end like images"
BROKEN, CLOSED, CIRCULAR = "broken links", "folders that cannot be opened", "links to a folder that contains them"
LISTED = 10


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or has a name in `SYSTEM`. Such files are never images of a user."""
    return name.startswith(".") or name.casefold() in SYSTEM


def is_hidden_path(path: str) -> bool:
    """Return whether a part of a relative path with slashes is hidden."""
    return any(is_hidden(part) for part in path.split("/") if part not in (".", ".."))


def readable_name(name: str) -> str:
    r"""Return the name of a file as text that can be printed and encoded: bytes that are not UTF-8 become ``\xe9``."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return os.fsencode(name).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half a pair of surrogates, which JSON can hold
            return name.encode("utf-8", "backslashreplace").decode()
    return name


def check_readable(folder: Path) -> None:
    """Raise InputError for a folder whose name is not UTF-8. Safetensors files cannot be read in it."""
    if (name := readable_name(str(folder))) != str(folder):
        raise InputError(f"the name of the folder {name} is not UTF-8, as files of tensors need: choose another name")


def printable(name: str) -> str:
    """Return a `readable_name` in one line, without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in readable_name(name))


class Skipped:
    """A record of the files and folders below ``root`` that are not used.

    Args:
        caption: ending of the files with captions, which are not skipped; empty if there are none.
    """

    def __init__(self, root: Path, caption: str = ""):
        self.root, self.caption = root, caption
        self.captions: list[Path] = []
        """The files that end like captions."""
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[Path]] = {}
        self._endings: Counter[str] = Counter()

    def add(self, what: str, path: Path) -> None:
        """Record a path. ``what`` is its kind, in the plural. The first `LISTED` paths of a kind are named."""
        if what == OTHERS and self.caption and path.suffix.lower() == self.caption:
            self.captions.append(path)
            return
        self._counts[what] += 1
        if len(first := self._first.setdefault(what, [])) < LISTED:
            first.append(path)
        if what == OTHERS:
            self._endings[path.suffix.lower() or "none"] += 1

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each kind, such as ``photos: skipped broken links (2): cat/a.png, dog/b.png``."""
        return tuple(f"{printable(str(self.root))}: skipped {self._listed(what)}" for what in self._counts)

    def _listed(self, what: str) -> str:
        count = self._counts[what]
        names = [printable(os.path.relpath(path, self.root)) for path in self._first[what]]
        endings = [f"{ending} {n}" for ending, n in self._endings.most_common(LISTED)] if what == OTHERS else []
        more = ", ..." if count > LISTED else ""
        return f"{what} ({count}{': ' if endings else ''}{', '.join(endings)}): {', '.join(names)}{more}"


def list_folder(folder: Path, skipped: Skipped, endings: Collection[str] = ENDINGS) -> tuple[list[Path], list[Path]]:
    """Return the sub-folders and the image files of a folder, sorted. Links are followed; all else is recorded.

    Args:
        endings: those of the files to find, in lower case.

    Raises:
        OSError: the folder cannot be opened.
    """
    folders, images = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if is_hidden(entry.name):
                skipped.add(HIDDEN, path)
            elif _is(entry, "folder"):
                folders.append(path)
            elif path.suffix.lower() not in endings:
                skipped.add(OTHERS, path)
            elif _is(entry, "file"):
                images.append(path)
            else:
                skipped.add(BROKEN, path)
    return sorted(folders), sorted(images)


def images_below(
    folder: Path, skipped: Skipped, above: Sequence[Path] = (), endings: Collection[str] = ENDINGS
) -> list[Path]:
    """Return all image files in a folder and its sub-folders, sorted. No file is opened.

    Links to folders are followed, except a link to a folder that contains the link. Folders that cannot be opened are
    recorded and skipped.

    Args:
        above: the folders that contain ``folder``, which links must not lead back to.
        endings: those of the files to find, in lower case.
    """
    found: list[Path] = []
    left = [(folder, frozenset(_identity(path) for path in above))]
    while left:
        here, outer = left.pop()
        try:
            if (ours := _identity(here)) in outer:
                skipped.add(CIRCULAR, here)
                continue
            folders, images = list_folder(here, skipped, endings)
        except OSError:
            skipped.add(CLOSED, here)
            continue
        found += images
        left += [(path, outer | {ours}) for path in folders]
    return sorted(found)


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    """Return whether an entry is a folder or a file. A link to itself is neither."""
    try:
        return entry.is_dir() if kind == "folder" else entry.is_file()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Return numbers that identify a folder, however it is reached."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino
