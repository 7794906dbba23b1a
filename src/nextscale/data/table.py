"""A table of images: CSV, TSV or JSON lines with a column ``file``, labels or captions, and optionally ``split``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nextscale.data.captions import NAMES, CaptionedImages, StoredTexts, caption_columns, captions_in
from nextscale.data.names import TRAIN_NAMES, VAL_NAMES, list_names, number_labels, pick_splits, sort_classes
from nextscale.data.source import ImageFiles, ImageSource, Splits
from nextscale.data.table_files import ENDINGS, read_lines
from nextscale.errors import InputError, brief
from nextscale.imaging.image_files import readable_name

FILE, LABEL, SPLIT = ("file", "path", "filename", "file_name", "image"), ("label", "class"), ("split",)
"""Accepted column names. If a table has several of them, the first one is used."""


class Row(NamedTuple):
    path: Path
    label: str
    split: str
    """Split of the image, or empty if the table has no such column."""
    captions: tuple[str, ...] = ()


def is_table(data: Path) -> bool:
    """Return whether ``data`` is a table or a folder with ``train.csv``, ``train.tsv`` or ``train.jsonl``."""
    if data.is_dir():
        return pick_splits(tables_in(data))[0] is not None
    return data.suffix.lower() in ENDINGS


def tables_in(folder: Path) -> dict[str, Path]:
    """Return the tables in a folder by their names without the ending."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS}


def table_splits(data: Path, captions: bool = False) -> Splits:
    """Open the images of a table, or of ``train.csv`` and an optional ``val.csv`` in a folder (or .tsv or .jsonl).

    Without ``val.csv``, a column ``split`` selects the validation images.

    Args:
        captions: open the captions, too.

    Raises:
        InputError: the table is invalid or has no captions, a file is missing, or a class is not in training.
    """
    tables = tables_in(data) if data.is_dir() else {"train": data}
    train, val = (tables[name] if name else None for name in pick_splits(tables))
    if not train:
        raise InputError(f"no table train.csv in {data}")

    def open_rows(name: Path | str, table: Path, rows: Sequence[Row], known: ImageSource | None = None) -> ImageSource:
        images = list_images(name, table.parent, rows, known.class_names if known else None)
        return CaptionedImages(images, StoredTexts(tuple(row.captions for row in rows))) if captions else images

    rows = read_rows(train, captions)
    if val:
        source = open_rows(train, train, rows)
        return source, open_rows(val, val, read_rows(val, captions), source)
    if not rows[0].split:
        return open_rows(train, train, rows), None
    train_name, val_name = pick_splits(row.split for row in rows)
    if not train_name:
        raise InputError(f"{train} has no row whose split is train")
    parts = {name: [row for row in rows if row.split == name] for name in (train_name, val_name)}
    source = open_rows(f"{train} ({train_name})", train, parts[train_name])
    if not val_name:
        return source, None
    return source, open_rows(f"{train} ({val_name})", train, parts[val_name], source)


def read_rows(table: Path, captions: bool = False) -> list[Row]:
    """Read the rows of a table. File names are relative to its folder.

    The images of a table with captions and without labels form one class, named after the folder.

    Raises:
        InputError: a column is missing (files, labels if there are no captions, captions if they are wanted), a row
            lacks a file or a label, or there are no rows.
    """
    header, lines = read_lines(table)
    file_at = find_column(table, header, FILE)
    described = caption_columns(header)
    if captions and not described:
        raise InputError(f"{table} has no column of captions ({NAMES}) among {list_names(header)}")
    has_labels = not described or any(name in header for name in LABEL)
    label_at = find_column(table, header, LABEL) if has_labels else None
    split_at = find_column(table, header, SPLIT) if header.count(SPLIT[0]) else None
    only_class = readable_name(table.parent.resolve().name)
    rows = []
    for number, cells in lines:
        what = f"line {number} of {table}"
        if len(cells) != len(header):
            raise InputError(f"{what} has {len(cells)} cells, but its first line has {len(header)}")
        file, label = as_text(cells[file_at], what), only_class if label_at is None else as_text(cells[label_at], what)
        split = "" if split_at is None else as_text(cells[split_at], what).casefold()
        if readable_name(label) != label:
            raise InputError(f"{what} has a label that is not UTF-8: {readable_name(label)!r}")
        if not file or not label:
            raise InputError(f"{what} has no {'label' if file else 'file'}")
        if split_at is not None and split not in TRAIN_NAMES + VAL_NAMES:
            known = ", ".join(TRAIN_NAMES + VAL_NAMES)
            raise InputError(f"{what} has the split {split!r}: expected one of {known}")
        texts = captions_in(dict(zip(header, cells, strict=True)), what) if captions else ()
        rows.append(Row(table.parent / file, label, split, texts))
    if not rows:
        raise InputError(f"{table} has no rows: expected one for each image")
    return rows


def as_text(cell: object, what: str) -> str:
    """Return the name of a file, class or split in a table. JSON may hold numbers.

    Raises:
        InputError: the cell is neither a text nor an integer.
    """
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise InputError(f"{what} has {brief(cell)}: expected a text or a number")
    return str(cell)


def find_column(table: Path, header: Sequence[str], names: Sequence[str]) -> int:
    """Return the index of the column with one of these names."""
    name = next((name for name in names if name in header), None)
    if name is None:
        raise InputError(
            f"{table} has no column {names[0]!r} (or {', '.join(names[1:])}): "
            f"expected a first line such as 'file,label', got {list_names(header)!r}"
        )
    if header.count(name) > 1:
        raise InputError(f"{table} has {header.count(name)} columns {name!r}: expected one")
    return header.index(name)


def list_images(
    root: Path | str, folder: Path, rows: Sequence[Row], class_names: tuple[str, ...] | None = None
) -> ImageFiles:
    """Open the images of some rows, in order.

    Args:
        root: name of the table in messages.
        folder: folder of the table.
        class_names: classes of the training split; other classes are an error.

    Raises:
        InputError: files are missing, or a class is unknown.
    """
    if missing := [row.path for row in rows if not os.path.isfile(row.path)]:
        raise InputError(f"{len(missing)} of the {len(rows)} files named in {root} are missing (first: {missing[0]})")
    labels = [row.label for row in rows]
    names = class_names or sort_classes(labels)
    return ImageFiles(root, tuple(row.path for row in rows), number_labels(labels, names, root), names, folder)
