"""Folders of videos with captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import refused
from tiny_star import make_schedule
from tiny_videos import grey_frames, number_of, write

from nextscale.data.content import Pixels
from nextscale.data.held_out import hold_out
from nextscale.data.videos import VideoDataset, find_videos
from nextscale.training.video_data import open_clips

SIZE = (32, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six videos of 12 frames at 16 frames per second, one of 3, one without a caption, and other files."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        write(root / f"{i}.mp4", grey_frames(12, (40, 60)))
        (root / f"{i}.txt").write_text(f"video {i}\n")
    write(root / "short.mp4", grey_frames(3, (40, 60)))
    (root / "short.txt").write_text("short")
    write(root / "silent.mp4", grey_frames(12, (40, 60)))
    (root / "lonely.txt").write_text("no video")
    (root / "photo.jpg").write_bytes(b"")
    return root


def test_frames_are_read_by_time(folder):
    source, val = find_videos(folder)
    assert val is None and len(source) == 8
    dataset = VideoDataset(source, 9, SIZE)
    example = dataset[0, 2]
    assert isinstance(example.content, Pixels) and example.content.values.shape == (3, 9, *SIZE)
    assert example.caption == "video 2" and example.unreadable == ()
    levels = (example.content.values.movedim(0, -1) + 1) * 127.5
    assert [number_of(frame.numpy().round()) for frame in levels] == list(range(9))


def test_what_cannot_be_used_is_skipped_and_named(folder):
    dataset = VideoDataset(find_videos(folder)[0], 9, SIZE)
    example = dataset[0, 6]
    assert example.caption == "video 0"
    assert "short.mp4" in example.unreadable[0] and "silent.mp4 has no caption" in example.unreadable[1]
    notes = dataset.source.notes
    assert any("photo.jpg" in note for note in notes) and any("lonely.txt" in note for note in notes)


def test_videos_are_mirrored_whole(folder):
    plain, flipped = (VideoDataset(find_videos(folder)[0], 9, SIZE, flip=flip) for flip in (False, True))
    seen = set()
    for epoch in range(8):
        ours, theirs = flipped[epoch, 0].content.values, plain[epoch, 0].content.values
        assert torch.equal(ours, theirs) or torch.equal(ours, theirs.flip(-1))
        seen.add(torch.equal(ours, theirs))
    assert seen == {True, False}


def test_the_duration_stands_before_captions(folder):
    dataset = VideoDataset(find_videos(folder)[0], 33, SIZE)
    assert dataset.captions()[0] == "<<<t=2s>>>video 0"
    assert VideoDataset(find_videos(folder)[0], 9, SIZE).captions()[0] == "video 0"


def test_some_are_held_out(folder):
    train, val = hold_out(find_videos(folder), 0.3)
    assert val and len(train) + len(val) == 8 and {val.name(i) for i in range(len(val))} & {train.name(0)} == set()
    ours, theirs = open_clips(str(folder), make_schedule(3), 0, val_fraction=0.3)
    assert theirs and len(ours) == len(train) and ours[0, 0].content.values.shape == (3, 9, *SIZE)
    with_val = folder.parent / "split"
    for name in ("train", "val"):
        (with_val / name / "a").mkdir(parents=True)
        write(with_val / name / "a" / "1.mp4", grey_frames(10))
        (with_val / name / "a" / "1.txt").write_text(name)
    ours, theirs = open_clips(str(with_val), make_schedule(3), 0)
    assert theirs and ours[0, 0].caption == "train" and theirs[0, 0].caption == "val"


def test_bad_input(tmp_path):
    with refused("no folder"):
        find_videos(tmp_path / "none")
    (tmp_path / "a.txt").write_text("caption")
    with refused("no videos", ".mp4"):
        find_videos(tmp_path)
    write(tmp_path / "b.mp4", grey_frames(2))
    with refused("no captions", "b.txt"):
        find_videos(tmp_path)
