"""A table of images: a CSV file with the columns ``file``, ``label`` and optionally ``split``."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nextscale.data.names import TRAIN_NAMES, VAL_NAMES, list_names, number_labels, pick_splits, sort_classes
from nextscale.data.source import ImageFiles, Splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import readable_name

FILE, LABEL, SPLIT = ("file", "path", "filename", "file_name", "image"), ("label", "class"), ("split",)
"""Accepted column names. If a table has several of them, the first one is used."""


class Row(NamedTuple):
    path: Path
    label: str
    split: str
    """Split of the image, or empty if the table has no such column."""


def is_table(data: Path) -> bool:
    """Return whether ``data`` is a CSV file or a folder with ``train.csv``."""
    if data.is_dir():
        return pick_splits(tables_in(data))[0] is not None
    return data.suffix.lower() == ".csv"


def tables_in(folder: Path) -> dict[str, Path]:
    """Return the CSV files of a folder by their names without the ending."""
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() == ".csv"}


def table_splits(data: Path) -> Splits:
    """Open the images of a CSV file, or of ``train.csv`` and an optional ``val.csv`` in a folder.

    Without ``val.csv``, a column ``split`` selects the validation images.

    Raises:
        InputError: the table is invalid, a file is missing, or a class is not in training.
    """
    tables = tables_in(data) if data.is_dir() else {"train": data}
    train, val = (tables[name] if name else None for name in pick_splits(tables))
    if not train:
        raise InputError(f"no table train.csv in {data}")
    if val:
        source = list_images(train, train.parent, read_rows(train))
        return source, list_images(val, val.parent, read_rows(val), source.class_names)
    rows = read_rows(train)
    if not rows[0].split:
        return list_images(train, train.parent, rows), None
    train_name, val_name = pick_splits(row.split for row in rows)
    if not train_name:
        raise InputError(f"{train} has no row whose split is train")
    parts = {name: [row for row in rows if row.split == name] for name in (train_name, val_name)}
    source = list_images(f"{train} ({train_name})", train.parent, parts[train_name])
    if not val_name:
        return source, None
    return source, list_images(f"{train} ({val_name})", train.parent, parts[val_name], source.class_names)


def read_rows(table: Path) -> list[Row]:
    """Read the rows of a table. File names are relative to its folder.

    Raises:
        InputError: there is no column for files or labels, a row lacks one of them, or there are no rows.
    """
    header, lines = read_lines(table)
    file_at, label_at = find_column(table, header, FILE), find_column(table, header, LABEL)
    split_at = find_column(table, header, SPLIT) if header.count(SPLIT[0]) else None
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise InputError(f"line {number} of {table} has {len(cells)} cells, but its first line has {len(header)}")
        file, label = cells[file_at], cells[label_at]
        split = "" if split_at is None else cells[split_at].casefold()
        if readable_name(label) != label:
            raise InputError(f"line {number} of {table} has a label that is not UTF-8: {readable_name(label)!r}")
        if not file or not label:
            raise InputError(f"line {number} of {table} has no {'label' if file else 'file'}")
        if split_at is not None and split not in TRAIN_NAMES + VAL_NAMES:
            known = ", ".join(TRAIN_NAMES + VAL_NAMES)
            raise InputError(f"line {number} of {table} has the split {split!r}: expected one of {known}")
        rows.append(Row(table.parent / file, label, split))
    if not rows:
        raise InputError(f"{table} has no rows: expected one for each image")
    return rows


def read_lines(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the column names, and the other non-empty lines with their numbers.

    Bytes that are not UTF-8 are kept (PEP 383), because names of files may have them.

    Raises:
        InputError: the file does not exist, is not CSV, or its column names are not UTF-8.
    """
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            header, *lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader] or [(1, [])]
        "".join(header[1]).encode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {table}: {error.strerror}") from error
    except (UnicodeEncodeError, csv.Error) as error:
        raise InputError(f"{table} is not CSV in UTF-8 ({error})") from error
    return [name.casefold() for name in header[1]], [(number, cells) for number, cells in lines if any(cells)]


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
