"""Tell sources that consist of official files from names and folders."""

from __future__ import annotations

from pathlib import Path

PTH = (".pth", ".pt", ".ckpt")
SAFETENSORS = ".safetensors"


def files_of(source: object) -> list[Path]:
    """The files of a source that consists of official files: a sequence of paths, or a text with commas between paths.
    The second of a pair may be a folder of shards.
    """
    if isinstance(source, tuple | list):
        return [Path(part) for part in source]
    parts = [part.strip() for part in str(source).split(",")]
    kinds = [part.endswith(PTH) for part in parts]
    if len(parts) > 1 and kinds[0]:
        kinds[-1] = kinds[-1] or parts[-1].endswith(SAFETENSORS) or Path(parts[-1]).is_dir()
    return [Path(part) for part in parts] if all(kinds) else []
