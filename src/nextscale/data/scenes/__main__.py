"""Write scenes as files: ``python -m nextscale.data.scenes PATH --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nextscale.data.scenes.files import write_scenes
from nextscale.data.scenes.scene import SPLITS
from nextscale.errors import InputError


def main() -> int:
    """Parse the command line and write scenes."""
    parser = argparse.ArgumentParser(prog="python -m nextscale.data.scenes", description="Write scenes with captions.")
    parser.add_argument("sprites", help="folder or .tar archive of emoji sprites")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=300, help="number of scenes (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (%(default)s)")
    parser.add_argument("--split", default="train", choices=SPLITS, help="kind of scenes (%(default)s)")
    parser.add_argument("--show", default="", help="object that every scene shows, such as zebra")
    options = parser.parse_args()
    try:
        write_scenes(**vars(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
