"""Write videos frame by frame: H.264 in MP4 and VP9 in WebM with PyAV, animated GIF and WebP with Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nextscale.errors import InputError
from nextscale.io.exif import with_comment
from nextscale.io.files import atomic_file, brief_path, check_writable_file
from nextscale.runtime.extras import check_installed, needed

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("mp4", "libx264", {"crf": "18", "preset": "medium"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}),
}
"""Format, codec and its options for each suffix that PyAV writes. Every browser plays both."""
ANIMATIONS = (".gif", ".webp")
"""Suffixes that Pillow writes. They may also be still images."""
SUFFIXES = (*CODECS, *ANIMATIONS)
BT709 = 1
"""FFmpeg's number of the colours of HD video, in which frames are stored."""


def check_writable_video(path: Path) -> None:
    """Raise InputError if a video cannot be written to the path, or PyAV is missing for it."""
    check_suffix(path)
    if path.suffix.lower() in CODECS:
        check_installed("av", "video")
    check_writable_file(path, "a video file")


def check_suffix(path: Path) -> None:
    """Raise InputError unless the suffix names a format of videos."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"unknown video format of {brief_path(path)}: expected one of the extensions {', '.join(SUFFIXES)}"
        )


class VideoWriter:
    """Context manager that writes frames to a video file. The file appears when the block ends without an error.

    Args:
        path: its suffix chooses the format; see `SUFFIXES`.
        fps: frames per second.
        comment: text in ASCII to store: the tag ``comment`` of MP4 and WebM, the comment of a GIF, the user comment in
            the EXIF data of a WebP.

    Raises:
        InputError: an unknown suffix, PyAV is missing, or the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, comment: str = ""):
        self.path, self.fps, self.comment = Path(path), Fraction(fps).limit_denominator(1001), comment
        check_suffix(self.path)
        if self.fps <= 0:
            raise InputError(f"frames per second are a positive number, not {fps}")
        self.count = 0
        """Frames so far."""
        self._stack = ExitStack()
        self._images: list[Image.Image] = []
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        self._stack.__enter__()
        self._temporary = self._stack.enter_context(atomic_file(self.path))
        if (codec := CODECS.get(self.path.suffix.lower())) is not None:
            with needed("av", "video"):
                import av
            options = {"movflags": "+faststart"} if codec[0] == "mp4" else {}  # plays before it is loaded completely
            self._container = self._stack.enter_context(
                av.open(str(self._temporary), "w", format=codec[0], options=options)
            )
            if self.comment:
                self._container.metadata["comment"] = self.comment
        return self

    def add(self, frames: np.ndarray) -> None:
        """Write frames (T, H, W, 3) uint8.

        Raises:
            InputError: their size differs from that of earlier frames, or H.264 does not take it.
        """
        for frame in frames:
            if self._container is None:
                self._images.append(Image.fromarray(frame))
            else:
                self._encode(frame)
            self.count += 1

    def _encode(self, frame: np.ndarray) -> None:
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = frame.shape[:2]
        if self._stream is None:
            if height % 2 or width % 2:
                raise InputError(f"{self.path.suffix} takes frames of even height and width, not {width} x {height}")
            _, name, options = CODECS[self.path.suffix.lower()]
            stream = self._stream = self._container.add_stream(name, rate=self.fps, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = ColorRange.MPEG
        if (height, width) != (self._stream.height, self._stream.width):
            raise InputError(
                f"expected frames of {self._stream.width} x {self._stream.height} pixels, not {width} x {height}"
            )
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        image.pts = self.count
        self._container.mux(self._stream.encode(image))

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        self._stack.__exit__(kind, *rest)

    def _finish(self) -> None:
        if not self.count:
            raise InputError(f"{brief_path(self.path)} would have no frames")
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        elif self._container is None:
            self._save_animation()

    def _save_animation(self) -> None:
        first, *others = self._images
        options: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0}
        if self.path.suffix.lower() == ".gif":
            first.save(self._temporary, "GIF", **options, duration=self._durations(10), comment=self.comment.encode())
            return
        first.save(
            self._temporary,
            "WEBP",
            **options,
            duration=self._durations(1),
            quality=90,
            exif=with_comment(self.comment),
        )

    def _durations(self, unit: int) -> list[int]:
        """Return the duration of each frame in milliseconds, a multiple of ``unit``, without drift."""
        ends = [unit * round(1000 * i / self.fps / unit) for i in range(self.count + 1)]
        return [end - start for start, end in pairwise(ends)]


def write_video(path: str | Path, frames: Iterable[np.ndarray] | np.ndarray, fps: float, comment: str = "") -> None:
    """Write frames (T, H, W, 3) uint8 to a video file; see `VideoWriter`."""
    with VideoWriter(path, fps, comment) as writer:
        writer.add(np.asarray(frames) if isinstance(frames, np.ndarray) else np.stack(list(frames)))
