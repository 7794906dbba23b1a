"""Files of prompts for evaluation, and the images that were made for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextscale.conditioning.prompts import check_prompts, read_prompts
from nextscale.errors import InputError
from nextscale.io.json_text import parse_json

METADATA, SAMPLES = "metadata.jsonl", "samples"


@dataclass(frozen=True)
class PromptRow:
    """A line of a file of prompts."""

    prompt: str
    fields: dict[str, Any] = field(default_factory=dict)
    """What a line in JSON says, the prompt included. Empty for a line of text."""


def read_rows(path: Path) -> list[PromptRow]:
    """Read prompts from a text file with one per line, or from a .jsonl file with an object with ``prompt`` per line.

    Raises:
        InputError: the file cannot be read, has no prompt, or a line is invalid.
    """
    lines = read_prompts(path)
    if path.suffix.lower() not in (".jsonl", ".json"):
        return [PromptRow(line) for line in lines]
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            fields = parse_json(line)
        except ValueError as error:
            raise InputError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
            raise InputError(f'line {number} of {path} must be an object with a text "prompt"')
        rows.append(PromptRow(fields["prompt"], fields))
    check_prompts([row.prompt for row in rows])
    return rows


def folder_of(out: Path, number: int) -> Path:
    """Return the folder of the images of a prompt, as GenEval expects it: ``OUT/00003``."""
    return out / f"{number:05d}"


def path_of(out: Path, number: int, attempt: int) -> Path:
    """Return the file of an image: ``OUT/00003/samples/00000.png``."""
    return folder_of(out, number) / SAMPLES / f"{attempt:05d}.png"


def images_of(folder: Path, rows: Sequence[PromptRow], tries: int, named: bool = False) -> list[list[Path]]:
    """Return the files of the images of each prompt, at `path_of`.

    Args:
        named: prefer the ``file`` of a line, if there is one in the folder. For images that were not sampled here.

    Raises:
        InputError: a file is missing, or a line names one file and several tries are asked for.
    """
    found = []
    for number, row in enumerate(rows):
        file = row.fields.get("file")
        if named and isinstance(file, str) and (folder / file).is_file():
            paths = [folder / file]
        else:
            paths = [path_of(folder, number, attempt) for attempt in range(tries)]
        if len(paths) < tries:
            raise InputError(f"{folder} has one image of each prompt: expected --tries 1, not {tries}")
        if missing := next((path for path in paths if not path.is_file()), None):
            raise InputError(f"no image {missing}, which belongs to prompt {number}: {row.prompt}")
        found.append(paths)
    return found
