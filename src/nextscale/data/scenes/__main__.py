"""Write scenes as files: ``python -m nextscale.data.scenes PATH --out FOLDER``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.scene import SPLITS
from nextscale.data.scenes.sprites import open_sprites
from nextscale.errors import InputError
from nextscale.imaging.images import save_image
from nextscale.io.files import make_folder


def write_scenes(
    sprites: str | Path, out: str | Path, count: int = 300, size: int = 64, seed: int = 0, split: str = "train"
) -> None:
    """Write scenes with captions to a folder: ``000000.png``, ``000000.txt``, and all of them in ``scenes.jsonl``.

    Each line of ``scenes.jsonl`` has the file, the prompt, and what the scene shows. Captions are complete: they name
    the style and the background.

    Args:
        sprites: folder or .tar archive of sprites; see `open_sprites`.
        seed: other seeds give other scenes of the same split.
        split: one of `SPLITS`.
    """
    scenes = SceneDataset(open_sprites(sprites), (size, size), seed, split)
    make_folder(Path(out))
    lines = []
    for i in range(count):
        scene, pixels, _, text = scenes.draw(0, i, complete=True)
        name = f"{i:06d}"
        save_image(Image.fromarray(pixels), Path(out) / f"{name}.png")
        (Path(out) / f"{name}.txt").write_text(f"{text}\n")
        lines.append(json.dumps({"file": f"{name}.png", "prompt": text, **asdict(scene)}))
    (Path(out) / "scenes.jsonl").write_text("\n".join(lines) + "\n")


def main() -> int:
    """Parse the command line and write scenes."""
    parser = argparse.ArgumentParser(prog="python -m nextscale.data.scenes", description="Write scenes with captions.")
    parser.add_argument("sprites", help="folder or .tar archive of emoji sprites")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=300, help="number of scenes (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (%(default)s)")
    parser.add_argument("--split", default="train", choices=SPLITS, help="kind of scenes (%(default)s)")
    options = parser.parse_args()
    try:
        write_scenes(options.sprites, options.out, options.count, options.size, options.seed, options.split)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
