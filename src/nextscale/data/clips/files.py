"""Write clips with captions as video files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nextscale.data.clips.dataset import ClipDataset
from nextscale.data.scenes.sprites import open_sprites
from nextscale.data.videos import FPS
from nextscale.errors import InputError
from nextscale.io.files import make_folder
from nextscale.io.video_writer import write_video


def write_clips(
    sprites: str | Path,
    out: str | Path,
    count: int = 100,
    frames: int = 17,
    size: int = 64,
    seed: int = 0,
    split: str = "train",
) -> None:
    """Write clips with captions to a folder: ``000000.mp4``, ``000000.txt``, and all of them in ``clips.jsonl``.

    Each line of ``clips.jsonl`` has the file, the prompt, and what the clip shows. Captions are complete: they name the
    style and the background.

    Args:
        sprites: folder or .tar archive of sprites.
        frames: T, the number of frames.
        size: side of the frames in pixels, even.
        seed: other seeds give other clips of the same split.
        split: train, val, held-out or all.

    Raises:
        InputError: there are no sprites, the folder cannot be written to, or a number is too small.
    """
    for name, value, least in (("count", count, 1), ("frames", frames, 1), ("size", size, 16), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, not {value}")
    clips = ClipDataset(open_sprites(sprites), frames, (size, size), seed, split)
    make_folder(Path(out))
    lines = []
    for i in range(count):
        clip, pixels, text = clips.render(0, i, complete=True)
        name = f"{i:06d}"
        write_video(Path(out) / f"{name}.mp4", pixels, FPS)
        (Path(out) / f"{name}.txt").write_text(f"{text}\n")
        lines.append(json.dumps({"file": f"{name}.mp4", "prompt": text, **asdict(clip)}))
    (Path(out) / "clips.jsonl").write_text("\n".join(lines) + "\n")
