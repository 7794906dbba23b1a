from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_videos import grey_frames, number_of, rotate, write

from nextscale.errors import InputError
from nextscale.io.video_writer import VideoWriter, check_writable_video, write_video
from nextscale.io.videos import decode, is_video, read_comment, read_frames, read_info

TIMES = [i / 16 for i in range(17)]


def numbers(path, times=TIMES):
    return [number_of(frame) for frame in read_frames(path, times)]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, 16, comment="made by a test") as writer:
        writer.add(grey_frames(17)[:9])
        writer.add(grey_frames(17)[9:])
    assert [*tmp_path.iterdir()] == [path] and writer.count == 17
    assert numbers(path) == [*range(17)]
    info = read_info(path)
    assert info.size == (32, 48)
    assert info.fps == pytest.approx(16, rel=0.005)
    assert info.seconds == pytest.approx(17 / 16, abs=0.01)
    assert is_video(path)
    if suffix in (".mp4", ".webm"):
        assert read_comment(path) == "made by a test"


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_are_kept(tmp_path, suffix):
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    frames[:, :16, :16], frames[:, :16, 16:] = (250, 20, 10), (0, 200, 40)
    frames[:, 16:, :16], frames[:, 16:, 16:] = (20, 30, 240), (200, 180, 160)
    write_video(tmp_path / f"a{suffix}", frames, 16)
    read = np.asarray(read_frames(tmp_path / f"a{suffix}", [0])[0]).astype(int)
    for y, x in ((8, 8), (8, 24), (24, 8), (24, 24)):
        assert np.abs(read[y, x] - frames[0, y, x]).max() <= 4


def test_frames_are_selected_by_time(tmp_path):
    """Frame i of 24 per second is shown from i / 24 to (i + 1) / 24."""
    path = write(tmp_path / "a.mp4", grey_frames(20), fps=24)
    assert numbers(path, [i / 16 for i in range(13)]) == [int(24 * i / 16) for i in range(13)]
    assert numbers(path, [0, 0, 0.1, 20 / 24]) == [0, 0, 2, 19], "the last frame is shown until its end"


def test_variable_frame_rate(tmp_path):
    path = write(tmp_path / "a.mkv", grey_frames(5), times=[0, 40, 500, 520, 900])
    assert numbers(path, [0, 0.03, 0.05, 0.45, 0.51, 0.55, 0.85, 0.9]) == [0, 0, 1, 1, 2, 3, 3, 4]


def test_rotated(tmp_path):
    frames = grey_frames(3, (32, 48))
    path = rotate(write(tmp_path / "a.mp4", frames))
    image = read_frames(path, [0.125])[0]
    assert image.size == (32, 48)
    pixels = np.asarray(image)[..., 0].astype(int)
    assert pixels[:20].max() < 10 and pixels[30:].min() > 20, "the dark left half is at the top"


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv444p", ".mkv"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("mpeg4", "yuv420p", ".avi"),
        ("ffv1", "bgr0", ".mkv"),
        ("prores_ks", "yuv422p10le", ".mov"),
    ],
)
def test_codecs_and_bit_depths(tmp_path, codec, pix_fmt, suffix):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write(tmp_path / f"a{suffix}", grey_frames(9, (64, 64)), codec=codec, pix_fmt=pix_fmt, options=options)
    assert numbers(path, TIMES[:9]) == [*range(9)]


def test_pixels_that_are_not_square(tmp_path):
    path = write(tmp_path / "a.mkv", grey_frames(2), codec="ffv1", pix_fmt="bgr0")
    assert read_info(path).size == (32, 48)
    import av

    with av.open(str(tmp_path / "b.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey_frames(1)[0], "rgb24")))
        container.mux(stream.encode(None))
    assert read_info(tmp_path / "b.mkv").size == (32, 96)


def test_cut_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (33, 64, 64, 3), np.uint8)
    write_video(tmp_path / "whole.mp4", noise, 16)  # its index comes first
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    assert len(read_frames(tmp_path / "half.mp4", [0, 0.5])) == 2, "what is there is used"
    with pytest.raises(InputError, match=r"half\.mp4 has \d\.\d\d seconds that can be read: expected at least 2$"):
        read_frames(tmp_path / "half.mp4", [0, 2])
    write(tmp_path / "late.mp4", noise[:4])  # its index comes last
    (tmp_path / "late.mp4").write_bytes((tmp_path / "late.mp4").read_bytes()[:-400])
    with pytest.raises(InputError, match=r"cannot read .*late\.mp4: not a video, damaged, or of an unknown format"):
        read_frames(tmp_path / "late.mp4", [0])


def test_files_without_frames(tmp_path):
    import av

    with av.open(str(tmp_path / "empty.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=16)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "bgr0"
        stream.codec_context.open()
        container.start_encoding()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for name, problem in (("empty.mkv", r"cannot read .*empty\.mkv"), ("sound.mp4", "it has no video")):
        with pytest.raises(InputError, match=problem):
            read_frames(tmp_path / name, [0])
        with pytest.raises(InputError, match=problem):
            read_info(tmp_path / name)


def test_other_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    Image.new("RGB", (8, 8)).save(tmp_path / "image.jpg")
    for name in ("empty.mp4", "text.mp4", "noise.mp4", "image.jpg"):
        with pytest.raises(InputError, match=r"cannot read .*not a video"):
            read_frames(tmp_path / name, [0])
    with pytest.raises(InputError, match=r"missing\.mp4: no such file"):
        read_frames(tmp_path / "missing.mp4", [0])
    with pytest.raises(InputError, match=r"missing\.mp4: no such file"):
        is_video(tmp_path / "missing.mp4")
    with pytest.raises(InputError):
        read_frames(tmp_path, [0])
    assert not is_video(tmp_path / "image.jpg")


def test_playlists_are_not_followed(tmp_path):
    """A playlist could name other files or addresses."""
    write(tmp_path / "secret.ts", grey_frames(3))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    for name, content in (("a.m3u8", playlist), ("b.mp4", playlist), ("c.txt", "ffconcat version 1.0\nfile secret.ts")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="not a video"):
            read_frames(tmp_path / name, [0])


def test_huge_frames(tmp_path):
    path = write(tmp_path / "a.mkv", np.zeros((1, 16, 8400, 3), np.uint8), codec="ffv1", pix_fmt="bgr0")
    assert read_info(path).size == (16, 8400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextscale.io.videos.LARGEST_FRAME", 100_000)
        with pytest.raises(InputError, match="frames of 8400 x 16 pixels are too large, at most 100,000 are read"):
            read_frames(path, [0])
        patch.setattr("nextscale.io.videos.LARGEST_FRAME", 2**26)
        patch.setattr("nextscale.io.videos.MOST_FRAMES", 5)
        write_video(tmp_path / "long.gif", grey_frames(9), 16)
        with pytest.raises(InputError, match="more than 5 frames"):
            list(decode(tmp_path / "long.gif"))


def test_too_short_videos_name_both_durations(tmp_path):
    path = write(tmp_path / "a.mp4", grey_frames(8))
    with pytest.raises(InputError, match=r"a\.mp4 has 0\.50 seconds that can be read: expected at least 0\.75"):
        read_frames(path, [0, 0.75])


def test_kept_frames_are_converted(tmp_path):
    path = write(tmp_path / "a.mp4", grey_frames(3))
    assert [image.size for image in read_frames(path, [0, 0.1], lambda image: image.resize((4, 2)))] == [(4, 2)] * 2


def test_writing_refuses(tmp_path):
    frames = grey_frames(2)
    with pytest.raises(InputError, match=r"unknown video format of .*clip\.avi: expected one of .* \.mp4, \.webm"):
        check_writable_video(tmp_path / "clip.avi")
    with pytest.raises(InputError, match="even height and width, not 47 x 32"):
        write_video(tmp_path / "a.mp4", frames[:, :, :47], 16)
    with (
        pytest.raises(InputError, match="expected frames of 48 x 32 pixels, not 24 x 32"),
        VideoWriter(tmp_path / "a.mp4", 16) as writer,
    ):
        writer.add(frames)
        writer.add(frames[:, :, :24])
    with pytest.raises(InputError, match="would have no frames"), VideoWriter(tmp_path / "a.mp4", 16):
        pass
    assert not list(tmp_path.iterdir()), "no incomplete file is left"
