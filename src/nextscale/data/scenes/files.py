"""Write scenes with captions as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from nextscale.data.scenes.dataset import SceneDataset
from nextscale.data.scenes.sprites import open_sprites
from nextscale.errors import InputError
from nextscale.imaging.images import save_image
from nextscale.io.files import make_folder


def write_scenes(
    sprites: str | Path,
    out: str | Path,
    count: int = 300,
    size: int = 64,
    seed: int = 0,
    split: str = "train",
    show: str = "",
) -> None:
    """Write scenes with captions to a folder: ``000000.png``, ``000000.txt``, and all of them in ``scenes.jsonl``.

    Each line of ``scenes.jsonl`` has the file, the prompt, and what the scene shows. Captions are complete: they name
    the style and the background.

    Args:
        sprites: folder or .tar archive of sprites; see `open_sprites`.
        seed: other seeds give other scenes of the same split.
        split: one of `SPLITS`.
        show: name of an object that every scene shows, if not empty.

    Raises:
        InputError: there are no sprites, or none of the object to show, the folder cannot be written to, or a number is
            too small.
    """
    for name, value, least in (("count", count, 1), ("size", size, 16), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, not {value}")
    scenes = SceneDataset(open_sprites(sprites), (size, size), seed, split, show=show)
    make_folder(Path(out))
    lines = []
    for i in range(count):
        scene, pixels, _, text = scenes.render(0, i, complete=True)
        name = f"{i:06d}"
        save_image(Image.fromarray(pixels), Path(out) / f"{name}.png")
        (Path(out) / f"{name}.txt").write_text(f"{text}\n")
        lines.append(json.dumps({"file": f"{name}.png", "prompt": text, **asdict(scene)}))
    (Path(out) / "scenes.jsonl").write_text("\n".join(lines) + "\n")
