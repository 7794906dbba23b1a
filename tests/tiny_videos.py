"""Small video files. Frame i is grey, of level 12 i + 10, with a dark left half."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LEVELS = 12


def grey_frames(count: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """(T, H, W, 3) uint8."""
    levels = (LEVELS * np.arange(count) + 10).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (count, *size, 3)).copy()
    frames[:, :, : size[1] // 2] = 0
    return frames


def number_of(image) -> int:
    """The number of a frame, from the level in its middle right half."""
    image = np.asarray(image)
    return round((float(image[image.shape[0] // 2, -image.shape[1] // 4, 0]) - 10) / LEVELS)


def write(path: Path, frames: np.ndarray, fps=16, codec="libx264", pix_fmt="yuv420p", times=None, options=None) -> Path:
    """Write a video file with PyAV.

    Args:
        times: of the frames, in milliseconds.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times is not None:
            from fractions import Fraction

            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=pix_fmt)
            picture.pts = i if times is None else times[i]
            if times is not None:
                picture.time_base = stream.time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def rotate(path: Path) -> Path:
    """Set the rotation of an MP4 file to 90 degrees, as phones do that are held upright."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times, ids and duration; reserved; layer and volume
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path
