"""Videos with captions as training examples.

A data set is a folder of video files, optionally inside train/ and val/. The caption of ``NAME.mp4`` is the whole
content of ``NAME.txt`` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextscale.conditioning.prompts import duration_tag
from nextscale.data.captions import TextFiles
from nextscale.data.dataset import ImageDataset
from nextscale.data.folder import CAPTION, find_splits
from nextscale.data.source import ImageSource, Splits
from nextscale.errors import InputError
from nextscale.imaging.image_files import Skipped, images_below
from nextscale.imaging.images import infinity_crop, to_unit_range
from nextscale.io.fingerprint import stamp
from nextscale.io.videos import read_frames

ENDINGS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".webp"))
"""Endings of video files."""
FPS = 16
"""Frames per second of examples."""


@dataclass(frozen=True, eq=False)
class VideoFiles:
    """Video files with captions. Where an image is asked for, it is the first frame."""

    root: Path
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    kind: str = "videos"

    @property
    def labels(self) -> Sequence[int]:
        """Zeros: videos have no classes."""
        return (0,) * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def key(self, index: int) -> str:
        return self.paths[index].relative_to(self.root).as_posix()

    def stamp(self, chosen: Sequence[int] | None = None) -> str:
        return stamp(self.paths if chosen is None else [self.paths[i] for i in chosen])

    def file(self, index: int) -> Path:
        """Return the path of a video."""
        return self.paths[index]

    def read(self, index: int) -> Image.Image:
        return read_frames(self.paths[index], [0.0])[0]

    def ratio(self, index: int) -> float:
        image = self.read(index)
        return image.height / image.width

    def captions(self, index: int) -> Sequence[str]:
        return TextFiles((self.paths[index].with_suffix(CAPTION),)).captions(0)


class VideoDataset(ImageDataset):
    """Videos of T frames, (3, T, H, W), with captions. The frames are at 0, 1/16, 2/16 ... seconds.

    Captions begin with the duration, as InfinityStar expects it; see `duration_tag`.

    A video that is shorter, cannot be read, or has no caption is skipped; see `ImageDataset`.

    Args:
        source: `VideoFiles`, or a part of them.
        frames: T.
        size: (H, W); frames are resized to cover it, and cropped.
        flip: mirror videos with probability 1/2.
    """

    def __init__(
        self,
        source: ImageSource,
        frames: int,
        size: tuple[int, int],
        seed: int = 0,
        flip: bool = False,
        memory: int | None = None,
    ):
        super().__init__(source, size, seed, augment=False, flip=flip, captions=True, memory=memory)
        self.frames = frames
        self._tag = duration_tag((frames - 1) / FPS)

    def captions(self) -> list[str]:
        return [self._tag + caption for caption in super().captions()]

    def captions_of(self, i: int) -> Sequence[str]:
        return [self._tag + caption for caption in super().captions_of(i)]

    def _caption(self, i: int, epoch: int, index: int) -> str | None:
        caption = super()._caption(i, epoch, index)
        return caption and self._tag + caption

    def _read(self, i: int) -> np.ndarray:
        """Return the frames of a video, (T, H, W, 3) uint8."""
        path = getattr(self.source, "file")(i)  # noqa: B009 (parts of data sets pass it on)
        times = [frame / FPS for frame in range(self.frames)]
        return np.stack(read_frames(path, times, lambda image: np.asarray(infinity_crop(image, self.size))))

    def _crop(self, pixels: np.ndarray, epoch: int, index: int) -> Tensor:
        if self.flip and np.random.default_rng((self.seed, epoch, index)).random() < 0.5:
            pixels = pixels[:, :, ::-1]
        return to_unit_range(torch.from_numpy(np.ascontiguousarray(pixels)).permute(3, 0, 1, 2))


def find_videos(root: Path) -> Splits:
    """Find the videos of a folder: training, and validation or None.

    Raises:
        InputError: the folder does not exist or has no videos, or none has a caption.
    """
    train, val = find_splits(root)
    return scan_videos(train), scan_videos(val) if val else None


def scan_videos(folder: Path) -> VideoFiles:
    """Find all videos below a folder, in a fixed order. No file is opened; see `find_videos`."""
    skipped = Skipped(folder, CAPTION)
    paths = images_below(folder, skipped, endings=ENDINGS)
    if not paths:
        raise InputError("; ".join([f"no videos in {folder}: expected files such as NAME.mp4", *skipped.notes()]))
    if not any(path.with_suffix(CAPTION).is_file() for path in paths):
        example = paths[0].with_suffix(CAPTION)
        raise InputError(f"no captions in {folder}: expected a file such as {example} beside {paths[0]}")
    described = {path.with_suffix(CAPTION) for path in paths}
    for path in skipped.captions:
        if path not in described:
            skipped.add("captions without a video", path)
    return VideoFiles(folder, tuple(paths), skipped.notes())
