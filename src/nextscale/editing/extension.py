"""Extend an image or a video: generate a video that begins with it (InfinityStar, arXiv 2511.04675, section 3).

The first clip of a video is its first frame. A given image takes its place; the beginning of a given video takes the
place of all clips but the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nextscale.errors import InputError
from nextscale.families.requests import Requests
from nextscale.imaging.images import as_rgb, infinity_crop, to_tensor
from nextscale.imaging.videos import Video
from nextscale.io.videos import ROUNDED, read_frames, read_info
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.image_shape import ImageShape
from nextscale.scales.spacetime import FPS, SpacetimeSchedule

VideoInput = Video | str | Path
ImageInput = Image.Image | str | Path


@dataclass(frozen=True)
class Beginning:
    """A given image or video, with which a generated one begins."""

    image: Image.Image | None
    video: VideoInput | None
    size: tuple[int, int]
    """(height, width)."""

    @classmethod
    def of(cls, image: ImageInput | None, video: VideoInput | None) -> Beginning:
        """Read an image, or the header of a video.

        Raises:
            InputError: both are given, or the file cannot be read.
        """
        if image is not None and video is not None:
            raise InputError("expected an image or a video to begin with, got both")
        if image is not None:
            rgb = as_rgb(image)
            return cls(rgb, None, (rgb.height, rgb.width))
        if isinstance(video, Video):
            return cls(None, video, video.size)
        if not isinstance(video, str | Path):
            raise InputError(f"a video is a path or a Video, not {type(video).__name__}")
        return cls(None, video, read_info(video).size)

    def schedule(self, requests: Requests, shape: ImageShape) -> SpacetimeSchedule:
        """Return the schedule of the generated video.

        The aspect is the one nearest to that of the image or video, unless ``shape`` states another. A continuation
        adds one whole clip, unless ``shape`` states the duration.
        """
        schedule: Any = requests.schedule_for(self.size, shape)
        if self.video is not None and shape.seconds is None and len(schedule.clips) < 3:
            return replace(schedule, latent_frames=1 + 2 * schedule.clip_frames)
        return schedule

    def edit(self, tokenizer: Any, schedule: SpacetimeSchedule, other: TokenEdit | None = None) -> TokenEdit:
        """Encode the given part of a video, and return the edit that keeps its tokens.

        Args:
            tokenizer: a `nextscale.tokenizer.video_tokenizer.VideoTokenizer`. The mean of the latents is used, without
                noise, so that the result depends only on the seed of the call.
            schedule: that of the generated video.
            other: an edit of the call, which is refused.
        """
        if other is not None:
            raise InputError("expected an edit, or an image or video to begin with, got both")
        kept = self.kept(schedule)
        tokens = tokenizer.encode(self.pixels(kept).to(tokenizer.scale.device), kept)
        return TokenEdit.of_scales(tokens, schedule)

    def kept(self, schedule: SpacetimeSchedule) -> SpacetimeSchedule:
        """Return the schedule of the part that is given.

        Raises:
            InputError: nothing would be left to generate.
        """
        count = 1 if self.image is not None else len(schedule.clips) - 1
        if self.image is not None and len(schedule.clips) == 1:
            raise InputError("a video that begins with an image has at least 1 second, not 0")
        if self.video is not None and count < 2:
            kept = replace(schedule, latent_frames=1 + schedule.clip_frames).seconds
            raise InputError(
                f"a continuation begins with {kept:g} seconds of the given video: expected more seconds than that, "
                f"not {schedule.seconds:g}"
            )
        return schedule.first_clips(count)

    def pixels(self, kept: SpacetimeSchedule) -> Tensor:
        """Return the frames of the given part, (1, 3, T, H, W) in [-1, 1].

        They are resized to cover the size of the generated video, and cropped at the centre.

        Raises:
            InputError: a video is shorter than the given part.
        """
        size = kept.image_size
        if self.image is not None:
            frames = [infinity_crop(self.image, size)]
        else:
            times = [i / FPS for i in range(kept.frames)]
            frames = list(self._frames(times, size))
        return torch.stack([to_tensor(frame) for frame in frames], 1)[None]

    def _frames(self, times: list[float], size: tuple[int, int]) -> Iterator[Image.Image]:
        if not isinstance(self.video, Video):
            assert self.video is not None
            yield from read_frames(self.video, times, lambda frame: infinity_crop(frame, size))
            return
        if times[-1] > self.video.seconds + ROUNDED:
            raise InputError(f"the video has {self.video.seconds:.2f} seconds: expected at least {times[-1]:g}")
        for time in times:
            index = min(int((time + ROUNDED) * self.video.fps), len(self.video) - 1)
            yield infinity_crop(self.video.image(index), size)
