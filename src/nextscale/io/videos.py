"""Read videos of any size, frame rate and codec: PyAV decodes video files, Pillow animated GIF and WebP.

Frames are upright RGB images with square pixels. They are selected by time, not by number, so that files of variable
frame rate are read correctly. Only the frames that were asked for are kept.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from PIL import Image, ImageSequence, UnidentifiedImageError

from nextscale.errors import InputError
from nextscale.io.files import brief_path
from nextscale.runtime.extras import needed

LARGEST_FRAME = 2**26
"""Most pixels of a frame, 8192 x 8192."""
MOST_FRAMES = 100_000
"""Most frames that are decoded for one request."""
ROUNDED = 0.006
"""Seconds by which the times of frames may be rounded: WebM stores milliseconds, GIF hundredths."""
DEMUXERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,m4v,ivf,y4m"
"""Formats that are read. Playlists are not among them: they would read other files and addresses."""
ANIMATED = ("GIF", "WEBP", "PNG")
"""Formats of animations that Pillow reads."""

T = TypeVar("T")


class Frame(NamedTuple):
    """A frame of a video."""

    start: float
    """Seconds since the first frame."""
    end: float
    """When the frame would be replaced by the next one."""
    image: Image.Image


class VideoInfo(NamedTuple):
    """What the header of a video states."""

    size: tuple[int, int]
    """(height, width) as shown, in square pixels."""
    fps: float
    """Average frames per second."""
    seconds: float
    """Duration; 0 if the file does not state it."""


def is_video(path: str | Path) -> bool:
    """Return whether a file is a video or an animation, rather than an image.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
    except UnidentifiedImageError:
        read_info(path)
        return True
    except FileNotFoundError as error:
        raise InputError(f"cannot read {brief_path(Path(path))}: no such file") from error
    except Exception:  # damaged, or too large for Pillow: whoever reads it says so
        return False


def read_info(path: str | Path) -> VideoInfo:
    """Return the size, the frame rate and the duration of a video file, as its header states them.

    Raises:
        InputError: the file is missing, or not a video.
    """
    if is_animation(path):
        frames = list(decode(path))
        if not frames:
            raise InputError(f"cannot read {brief_path(Path(path))}: it has no frames")
        image, seconds = frames[0].image, frames[-1].end
        return VideoInfo((image.height, image.width), len(frames) / seconds, seconds)
    with OpenedVideo(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        first = next(_decode_stream(path, container, stream), None)
        if first is None:
            raise InputError(f"cannot read {brief_path(Path(path))}: it has no frames")
        return VideoInfo((first.image.height, first.image.width), rate, (container.duration or 0) / 1e6)


def read_comment(path: str | Path) -> str | None:
    """Return the comment of a video file; None if there is none.

    Raises:
        InputError: the file is missing, or not a video.
    """
    with OpenedVideo(path) as (container, _):
        return {name.lower(): value for name, value in container.metadata.items()}.get("comment")


def read_frames(
    path: str | Path, times: Sequence[float], convert: Callable[[Image.Image], T] = lambda image: image
) -> list[T]:
    """Return the frames that are shown at some times.

    Args:
        times: seconds since the first frame, ascending.
        convert: applied to each frame that is kept, so that large ones are not kept at their size.

    Raises:
        InputError: the file is missing, damaged, not a video, or ends before the last time.
    """
    kept: list[T] = []
    shown: Frame | None = None
    for frame in decode(path):
        while shown is not None and len(kept) < len(times) and times[len(kept)] < frame.start - ROUNDED:
            kept.append(convert(shown.image))
        if len(kept) == len(times):
            return kept
        shown = frame
    if shown is None:
        raise InputError(f"cannot read {brief_path(Path(path))}: it has no frames")
    while len(kept) < len(times) and times[len(kept)] <= shown.end + ROUNDED:
        kept.append(convert(shown.image))
    if len(kept) < len(times):
        raise InputError(
            f"{brief_path(Path(path))} has {shown.end:.2f} seconds that can be read: expected at least {times[-1]:g}"
        )
    return kept


def decode(path: str | Path) -> Iterator[Frame]:
    """Yield the frames of a video in the order in which they are shown.

    A damaged file ends at the damage.

    Raises:
        InputError: the file is missing, not a video, or has frames that are too large or too many.
    """
    frames = _decode_animation(path) if is_animation(path) else _decode_video(path)
    for count, frame in enumerate(frames):
        if count == MOST_FRAMES:
            raise InputError(f"cannot read {brief_path(Path(path))}: it has more than {MOST_FRAMES:,} frames")
        yield frame


def is_animation(path: str | Path) -> bool:
    """Return whether Pillow reads a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.format in ANIMATED
    except FileNotFoundError as error:
        raise InputError(f"cannot read {brief_path(Path(path))}: no such file") from error
    except UnidentifiedImageError:
        return False
    except Exception as error:  # Pillow raises whatever it likes on broken files
        raise InputError(
            f"cannot read {brief_path(Path(path))} as a video ({error or type(error).__name__})"
        ) from error


def _decode_animation(path: str | Path) -> Iterator[Frame]:
    start = 0.0
    try:
        with Image.open(path) as file:
            for image in ImageSequence.Iterator(file):
                rgba = image.convert("RGBA")  # Pillow knows the duration afterwards
                end = start + max(float(image.info.get("duration", 0)), 10) / 1000
                white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
                yield Frame(start, end, Image.alpha_composite(white, rgba).convert("RGB"))
                start = end
    except (OSError, SyntaxError, ValueError, EOFError):
        return  # the file is cut


def _decode_video(path: str | Path) -> Iterator[Frame]:
    with OpenedVideo(path) as (container, stream):
        yield from _decode_stream(path, container, stream)


def _decode_stream(path: str | Path, container: Any, stream: Any) -> Iterator[Frame]:
    check_size(path, stream.width, stream.height)
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    ratio = float(stream.sample_aspect_ratio or 1)
    first: float | None = None
    end = 0.0
    frames = container.decode(stream)
    while True:
        try:
            frame = next(frames, None)
        except Exception:  # FFmpeg's errors for damaged data
            return
        if frame is None:
            return
        if frame.is_corrupt:
            continue
        check_size(path, frame.width, frame.height)
        time = end if frame.time is None else frame.time
        first = time if first is None else first
        start = time - first
        duration = float((frame.duration or 0) * frame.time_base) if frame.time_base else 0.0
        end = start + (duration or 1 / rate)
        yield Frame(start, end, upright(frame.to_image(), frame.rotation, ratio))


def upright(image: Image.Image, rotation: int, ratio: float) -> Image.Image:
    """Return a frame as it is shown.

    Args:
        rotation: degrees to turn it counterclockwise.
        ratio: width / height of a pixel.
    """
    if ratio > 0 and abs(ratio - 1) > 1e-3 and math.isfinite(ratio) and 1 / 16 < ratio < 16:
        image = image.resize((max(1, round(image.width * ratio)), image.height), Image.Resampling.LANCZOS)
    return image.rotate(rotation, expand=True) if rotation else image


def check_size(path: str | Path, width: int, height: int) -> None:
    """Raise InputError if frames are too large."""
    if width * height > LARGEST_FRAME:
        raise InputError(
            f"cannot read {brief_path(Path(path))}: frames of {width} x {height} pixels are too large, "
            f"at most {LARGEST_FRAME:,} are read"
        )


class OpenedVideo:
    """Context manager that opens a video file and yields (container, video stream) of PyAV."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __enter__(self) -> tuple[Any, Any]:
        with needed("av", "video"):
            import av
        shown = brief_path(self.path)
        try:
            self._file = open(self.path, "rb")  # a path would be taken for an address
        except OSError as error:
            raise InputError(f"cannot read {shown}: {error.strerror}") from error
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
        try:
            self._container = av.open(self._file, options=options, metadata_errors="replace")
        except Exception as error:  # FFmpeg has an error class for each of its codes
            self._file.close()
            raise InputError(f"cannot read {shown}: not a video, damaged, or of an unknown format") from error
        streams = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            self.__exit__()
            raise InputError(f"cannot read {shown}: it has no video")
        streams[0].thread_type = "AUTO"
        return self._container, streams[0]

    def __exit__(self, *_: object) -> None:
        self._container.close()
        self._file.close()
