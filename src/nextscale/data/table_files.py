"""Read the files of tables: CSV, TSV (CSV with tabs) and JSON lines."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.io.json_text import parse_json

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = ".jsonl"
ENDINGS = (*DELIMITERS, JSON_LINES)

Lines = list[tuple[int, list[Any]]]
"""Cells of each line, with the number of the line."""


def read_lines(table: Path) -> tuple[list[str], Lines]:
    """Read the column names in lower case, and the other non-empty lines.

    Cells of CSV are texts. Those of JSON lines may be any JSON; a missing field is an empty text. Bytes that are not
    UTF-8 are kept (PEP 383), because names of files may have them.

    Raises:
        InputError: the file does not exist, is not a table, or its column names are not UTF-8.
    """
    return read_json_lines(table) if table.suffix.lower() == JSON_LINES else read_csv(table)


def read_csv(table: Path) -> tuple[list[str], Lines]:
    """Read a file of comma- or tab-separated values; see `read_lines`."""
    delimiter = DELIMITERS[table.suffix.lower()]
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            header, *lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader] or [(1, [])]
        "".join(header[1]).encode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {table}: {error.strerror}") from error
    except (UnicodeEncodeError, csv.Error) as error:
        raise InputError(f"{table} is not CSV in UTF-8 ({error})") from error
    return [name.casefold() for name in header[1]], [(number, cells) for number, cells in lines if any(cells)]


def read_json_lines(table: Path) -> tuple[list[str], Lines]:
    """Read a file with one JSON object per line; see `read_lines`. The columns are the fields of all lines."""
    records: list[tuple[int, dict[str, Any]]] = []
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    records.append((number, parse_record(table, number, line)))
    except OSError as error:
        raise InputError(f"cannot read {table}: {error.strerror}") from error
    header = list(dict.fromkeys(name for _, record in records for name in record))
    return header, [(number, [record.get(name, "") for name in header]) for number, record in records]


def parse_record(table: Path, number: int, line: str) -> dict[str, Any]:
    """Return the fields of a line of JSON. Names are in lower case, and null becomes an empty text.

    Raises:
        InputError: the line is not a JSON object.
    """
    try:
        content = parse_json(line)
    except ValueError as error:
        raise InputError(f"line {number} of {table} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"line {number} of {table} is {brief(content)}: expected a JSON object")
    values = ((name, "" if value is None else value) for name, value in content.items())
    return {name.strip().casefold(): value.strip() if isinstance(value, str) else value for name, value in values}
