"""``nextscale edit`` with a video model: begin with an image, or continue a video."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nextscale.cli.sampling import load, say_shape
from nextscale.cli.videos import write_videos
from nextscale.editing.spec import EditSpec
from nextscale.errors import InputError
from nextscale.io.files import brief_path
from nextscale.io.videos import is_video
from nextscale.provenance import EditProvenance, Provenance, printable

if TYPE_CHECKING:
    from nextscale.cli.edit import Options

OUT = Path("edited.mp4")
"""Where videos are written by default."""
CHUNK = 2**20
"""Bytes of a file that are read at a time."""


def extend(options: Options, like: Provenance | None, count: int) -> None:
    """Generate videos that begin with the image or the video of the options.

    Args:
        like: provenance of the file of ``--like``.
        count: number of videos.

    Raises:
        InputError: an option for editing images, no file, or a model that generates images.
    """
    from nextscale.cli.edit import check_inputs_are_kept

    for given, flag in ((options.mask, "--mask"), (options.show, "--show"), (options.label, "--label")):
        if given:
            raise InputError(f"{flag} is for models that generate images: {options.model} generates videos")
    options = replace(options, out=options.out or OUT)
    check_inputs_are_kept(options, count)
    edit, kind = read_beginning(options, like)
    pipeline = load(options, like)
    if pipeline.family.media != "video":
        raise InputError(f"{options.model} generates images: expected a video model to extend {edit.image}")
    settings = options.changed_settings(pipeline)
    what = {"num_images": count, "seed": options.seed_or_seeds(), "settings": settings, kind: options.image}
    run = pipeline.scales([options.prompt] * count, **what, **options.request())
    if run.schedule.frames == 1:
        raise InputError("an image cannot be extended to an image: expected more seconds than 0")
    made = options.provenance(pipeline, (), count, edit, (options.prompt,), run.schedule.frames)
    say_shape(options, pipeline, run)
    one = like is not None and like.index is not None
    print(*write_videos(run, pipeline, like if one and like else made, options, options.out), sep="\n")


def read_beginning(options: Options, like: Provenance | None) -> tuple[EditProvenance, Literal["image", "video"]]:
    """Return the provenance of the edit, and what the file is.

    Raises:
        InputError: a file is missing, is neither an image nor a video, or differs from that of ``--like``.
    """
    path = options.image
    if path is None:
        raise InputError("expected an image or a video to begin with, got none")
    shown = brief_path(path)
    if like and not path.is_file():
        raise InputError(f"{options.like} was made from {shown}, which does not exist: add IMAGE with its new path")
    sha256 = hash_of(path)
    if like and like.edit and sha256 != like.edit.image_sha256:
        raise InputError(f"{shown} is not the file that {options.like} was made from, or has changed since")
    kind = options.edit.extend or ("video" if is_video(path) else "image")
    spec = EditSpec(**{field.name: getattr(options.edit, field.name) for field in fields(EditSpec)} | {"extend": kind})
    return EditProvenance(spec=spec, image=printable(str(path)), image_sha256=sha256), kind


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, which may be large."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    except OSError as error:
        raise InputError(f"cannot read {brief_path(path)}: {error.strerror}") from error
    return total.hexdigest()
