"""Write videos of ``sample`` and ``edit`` while they are sampled: video files, or strips of frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nextscale.cli.sampling import SamplingOptions, say_step, write
from nextscale.imaging.images import grid, to_pixels
from nextscale.imaging.videos import as_frames, strip, strip_indices
from nextscale.io.files import beside
from nextscale.io.video_writer import SUFFIXES, VideoWriter
from nextscale.pipeline import Pipeline
from nextscale.provenance import Provenance
from nextscale.runtime.progress import say
from nextscale.sampling.run import SamplingRun
from nextscale.scales.spacetime import FPS

OUT = Path("samples.mp4")
"""Where videos are written by default."""


class TiledWriter(VideoWriter):
    """Writes several videos as one, whose frames are grids."""

    def add(self, frames: np.ndarray) -> None:
        """Write frames (B, T, H, W, 3) uint8 of B videos."""
        if len(frames) == 1:
            super().add(frames[0])
            return
        for t in range(frames.shape[1]):
            super().add(np.asarray(grid([Image.fromarray(frame) for frame in frames[:, t]]))[None])


class StripWriter:
    """Context manager that writes evenly spaced frames of videos to an image, one row for each video.

    Args:
        count: T, the number of frames of each video.
    """

    def __init__(self, path: Path, count: int, made: Provenance):
        self._path, self._made, self._chosen = path, made, set(strip_indices(count))
        self._count = 0
        self._videos: list[list[Image.Image]] = []

    def __enter__(self) -> StripWriter:
        return self

    def add(self, frames: np.ndarray) -> None:
        """Take the next frames (B, T', H, W, 3) uint8."""
        self._videos = self._videos or [[] for _ in frames]
        for t in range(frames.shape[1]):
            if self._count + t in self._chosen:
                for video, frame in zip(self._videos, frames[:, t], strict=True):
                    video.append(Image.fromarray(frame))
        self._count += frames.shape[1]

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            write(strip(self._videos), self._path, self._made)


def write_videos(
    run: SamplingRun, pipeline: Pipeline, made: Provenance, options: SamplingOptions, out: Path | None = None
) -> list[Path]:
    """Sample videos, and write them as they are decoded: all in one file and, with ``--separate``, each in its own.

    Args:
        made: with an ``index``, only this video is written.
        out: None means `OUT`.
    """
    count = made.num_images
    shown: Sequence[int] = range(count) if made.index is None else [made.index]
    out = out or OUT
    files = [(out, list(shown), made)]
    if options.separate:
        files += [
            (beside(out, f"{i:03d}"), [k], made.of_image(k) if made.index is None else made)
            for i, k in enumerate(shown)
        ]
    say(f"sampling in {pipeline.dtype} on {pipeline.device}")
    with ExitStack() as stack:
        writers = [stack.enter_context(writer_of(path, run.schedule.frames, alone)) for path, _, alone in files]
        for chunk in run.frames(lambda step: say_step(step, run)):
            frames = as_frames(to_pixels(chunk))
            for writer, (_, which, _) in zip(writers, files, strict=True):
                writer.add(frames[which])
    return [path for path, _, _ in files]


def writer_of(path: Path, count: int, made: Provenance) -> TiledWriter | StripWriter:
    """Return the writer of a file of videos.

    Args:
        count: T, the number of frames of each video.
    """
    if path.suffix.lower() in SUFFIXES:
        return TiledWriter(path, FPS, made.to_comment())
    return StripWriter(path, count, made)
