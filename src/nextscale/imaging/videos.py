"""Videos in memory, and strips of their frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from nextscale.errors import InputError
from nextscale.imaging.images import FORMATS, grid, image_format
from nextscale.io.files import check_creatable, check_no_folder
from nextscale.io.video_writer import SUFFIXES, check_writable_video, write_video

STRIP_FRAMES = 8
"""Most frames of a strip."""


@dataclass(frozen=True, eq=False)
class Video:
    """A video in memory.

    Raises:
        InputError: the frames have another shape or type.
    """

    frames: np.ndarray = field(repr=False)
    """(T, H, W, 3) uint8 RGB."""
    fps: float = 16
    """Frames per second."""

    def __post_init__(self) -> None:
        frames = self.frames
        if (
            not isinstance(frames, np.ndarray)
            or frames.dtype != np.uint8
            or frames.shape[3:] != (3,)
            or not frames.size
        ):
            found = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise InputError(f"the frames of a video are a uint8 array (T, H, W, 3), not {found}")

    def __len__(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self) / self.fps

    def image(self, index: int) -> Image.Image:
        """Return one frame."""
        return Image.fromarray(self.frames[index])

    def save(self, path: str | Path, comment: str = "") -> None:
        """Write the video: H.264 for .mp4, VP9 for .webm, or an animated .gif or .webp.

        Args:
            comment: text in ASCII to store in the file.

        Raises:
            InputError: an unknown suffix, PyAV is missing, or the file cannot be written.
        """
        write_video(path, self.frames, self.fps, comment)


def collect(chunks: Iterable[Tensor], fps: float = 16) -> list[Video]:
    """Return the videos whose frames come in chunks (B, 3, T', H, W) uint8."""
    parts = [as_frames(chunk) for chunk in chunks]
    return [Video(frames, fps) for frames in np.concatenate(parts, 1)]


def as_frames(pixels: Tensor) -> np.ndarray:
    """(B, 3, T, H, W) uint8 -> (B, T, H, W, 3)."""
    return pixels.permute(0, 2, 3, 4, 1).cpu().numpy()


def strip_indices(count: int, most: int = STRIP_FRAMES) -> list[int]:
    """Return the numbers of the frames of a strip: all, or ``most`` evenly spaced ones, first and last included."""
    if count <= most:
        return [*range(count)]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def strip(videos: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Arrange frames in one image, one row for each video."""
    return grid([frame for frames in videos for frame in frames], columns=len(videos[0]))


def check_writable_media(path: Path) -> None:
    """Raise InputError if neither a video nor an image can be written to the path."""
    if path.suffix.lower() in SUFFIXES:
        check_writable_video(path)
        return
    check_no_folder(path, "an image or video file")
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"unknown format of {path.name}: expected one of the extensions "
            f"{', '.join(dict.fromkeys((*FORMATS, *SUFFIXES)))}"
        )
    image_format(path)
    check_creatable(path)
