"""A small collection of sprites: coloured ellipses in the place of emoji."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

from nextscale.data.scenes.objects import STYLES, THINGS

NAMES = ("dog", "cat", "rocket", "bee", "tree", "house", "violin")
SHADES = {"3d": 220, "flat": 160, "noto": 90}


def write_sprites(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Write a sprite for each name and style, 32 pixels wide and 24 high in a transparent square, and the index."""
    lines = []
    for number, name in enumerate(names):
        for style in STYLES:
            image = Image.new("RGBA", (48, 48))
            colour = (SHADES[style], 30 * number, 255 - 30 * number, 255)
            ImageDraw.Draw(image).ellipse((8, 12, 39, 35), fill=colour)
            file = f"{style}/{number}.png"
            (folder / style).mkdir(parents=True, exist_ok=True)
            image.save(folder / file)
            lines.append(json.dumps({"file": file, "name": THINGS[name].sprite, "style": style}))
    (folder / "sprites.jsonl").write_text("\n".join(lines))
    return folder
