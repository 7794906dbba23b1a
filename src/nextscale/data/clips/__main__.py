"""Write clips as files: ``python -m nextscale.data.clips PATH --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nextscale.data.clips.clip import SPLITS
from nextscale.data.clips.files import write_clips
from nextscale.errors import InputError


def main() -> int:
    """Parse the command line and write clips."""
    parser = argparse.ArgumentParser(prog="python -m nextscale.data.clips", description="Write clips with captions.")
    parser.add_argument("sprites", help="folder or .tar archive of emoji sprites")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=100, help="number of clips (%(default)s)")
    parser.add_argument("--frames", type=int, default=17, help="number of frames, 16 per second (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the frames (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the clips (%(default)s)")
    parser.add_argument("--split", default="train", choices=SPLITS, help="kind of clips (%(default)s)")
    options = parser.parse_args()
    try:
        write_clips(**vars(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
