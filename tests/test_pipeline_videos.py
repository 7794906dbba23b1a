from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_tokenizer as make_image_tokenizer
from tiny import make_var
from tiny_star import make_schedule, make_text
from tiny_star_pipeline import make_pipeline
from tiny_videos import grey_frames, write

import nextscale as ns
from nextscale.errors import InputError
from nextscale.imaging.images import infinity_crop, to_tensor
from nextscale.imaging.videos import Video
from nextscale.sampling.settings import FOR_VIDEOS, SamplingSettings


@pytest.fixture(scope="module")
def pipe() -> ns.Pipeline:
    return make_pipeline()


def same(first: Video, second: Video) -> bool:
    return first.frames.shape == second.frames.shape and bool((first.frames == second.frames).all())


def test_a_video_is_that_of_sample(pipe):
    result = pipe("a fox", seed=3)
    text = pipe.requests.encoder.encode(["a fox"])
    expected = ns.sample(pipe.tokenizer, pipe.model, text, seed=3, settings=FOR_VIDEOS)
    (video,) = result.videos
    assert video.frames.shape == (13, 32, 48, 3) and video.fps == 16
    assert result.images[0].size == (48, 32) and np.array_equal(np.asarray(result.images[0]), video.frames[0])
    equal = [bool((a == b).all()) for a, b in zip(result.tokens, expected.tokens, strict=True)]
    assert sum(equal) >= len(equal) - 1, "matrices are multiplied by other kernels"
    difference = np.abs(video.frames / 255 - expected.videos[0].permute(1, 2, 3, 0).numpy())
    assert not all(equal) or difference.max() < 0.005


def test_default_settings_are_the_official_ones(pipe):
    assert pipe.settings == FOR_VIDEOS
    explicit = {"cfg": 34.0, "top_k": 0, "top_p": 0.0, "guidance": "apg", "temperature": [1.0] * 3 + [0.4] * 6}
    settings = SamplingSettings(**explicit)
    assert same(pipe("a fox").videos[0], pipe("a fox", settings=settings).videos[0])
    assert not same(pipe("a fox").videos[0], pipe("a fox", guidance="cfg", cfg=3).videos[0])


def test_one_seed_per_video_makes_it_independent_of_the_batch(pipe):
    both = pipe(["a fox", "two red cats in the snow"], seed=[1, 2]).videos
    assert same(both[0], pipe("a fox", seed=[1]).videos[0])
    assert same(both[1], pipe("two red cats in the snow", seed=[2]).videos[0])


def test_streamed_frames_are_those_of_the_video(pipe):
    chunks = list(pipe.stream("a fox", seed=1))
    assert [tuple(chunk.shape) for chunk in chunks] == [(1, 3, t, 32, 48) for t in (1, 8, 4)]
    streamed = torch.cat(chunks, 2)[0].permute(1, 2, 3, 0).numpy()
    assert (streamed == pipe("a fox", seed=1).videos[0].frames).all()
    whole = pipe.scales("a fox", seed=1).result().videos[0].permute(1, 2, 3, 0).numpy()
    assert np.abs(streamed / 255 - whole).max() < 0.003


def test_a_clip_is_decoded_before_the_next_one_is_sampled(pipe):
    run, steps = pipe.scales("a fox"), []
    frames = run.frames(lambda step: steps.append(step.visit))
    next(frames)
    assert {visit.clip for visit in steps} == {0}
    next(frames)
    assert {visit.clip for visit in steps} == {0, 1}


def test_offloaded_models_make_the_same_video(pipe):
    offloaded = make_pipeline(offload=True)
    assert same(pipe("a fox").videos[0], offloaded("a fox").videos[0])
    image = Image.new("RGB", (48, 32), (10, 200, 30))
    assert same(pipe("a fox", image=image).videos[0], offloaded("a fox", image=image).videos[0])


def test_reduced_precision(pipe):
    first, second = (p("a fox", cfg=1).videos[0].frames.astype(int) for p in (pipe, make_pipeline(dtype="bfloat16")))
    assert 0 < np.abs(first - second).mean() < 60


def test_images_have_no_duration(pipe):
    result = pipe("a fox", seconds=0, num_images=2)
    assert not result.videos and [image.size for image in result.images] == [(48, 32)] * 2
    assert pipe.requests.encoder.texts[-1] == "a fox"


def test_prompts_begin_with_the_duration(pipe):
    assert pipe("a fox", seconds=1).videos[0].frames.shape[0] == 17
    assert pipe.requests.encoder.texts[-1] == "<<<t=1s>>>a fox"
    pipe("a fox", seconds=2, positive_phrase=True, negative_prompt="a cat")
    phrase = "<<<t=2s>>>a fox. A close view of large objects, rich in fine detail"
    assert pipe.requests.encoder.texts[-2:] == [phrase, "a cat"]
    longer = make_schedule(5)
    pipe("a fox", schedule=longer)
    assert pipe.requests.encoder.texts[-1] == "<<<t=1s>>>a fox"


def test_image_to_video_keeps_the_image_to_the_token(pipe, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8))
    image.save(tmp_path / "first.png")
    result = pipe("a fox", image=tmp_path / "first.png", seed=5)
    one = make_schedule(1)
    pixels = to_tensor(infinity_crop(image, (32, 48)))[None, :, None]
    kept = pipe.tokenizer.encode(pixels, one)
    canvas = pipe.scales("a fox", image=image, seed=5).result()
    expected = pipe.tokenizer.decode(kept, one).add(1).mul(127.5).round().to(torch.uint8)[0, :, 0].permute(1, 2, 0)
    assert np.abs(result.videos[0].frames[0].astype(int) - expected.numpy()).max() <= 1
    assert torch.allclose(canvas.videos[:, :, :1], pipe.tokenizer.decode(kept, one).add(1).mul(0.5), atol=1e-5)
    assert not same(result.videos[0], pipe("a fox", seed=5).videos[0])


def test_continuation_keeps_the_beginning_of_a_video(pipe, tmp_path):
    """All clips but the last come from the video: 9 of 13 frames."""
    frames = grey_frames(20)
    write(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    schedule = make_schedule(4)
    of_file, of_memory = (
        pipe("a fox", video=video, seed=1, schedule=schedule).videos[0]
        for video in (tmp_path / "a.mkv", Video(frames, 16))
    )
    assert same(of_file, of_memory)
    first = make_schedule(3)
    pixels = torch.from_numpy(frames[:9]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    expected = pipe.tokenizer.decode(pipe.tokenizer.encode(pixels, first), first).add(1).mul(127.5)
    got = torch.from_numpy(of_file.frames[:9]).permute(3, 0, 1, 2)[None]
    assert (got - expected).abs().max() <= 1


def test_a_continuation_of_another_frame_rate(pipe, tmp_path):
    """A video of 32 frames per second gives every second frame."""
    double = Video(np.repeat(grey_frames(20), 2, axis=0), 32)
    plain = Video(grey_frames(20), 16)
    assert same(*(pipe("a fox", video=video).videos[0] for video in (double, plain)))


def test_the_default_duration_of_a_continuation_adds_a_clip(pipe):
    video = Video(grey_frames(20), 16)
    assert len(make_pipeline(make_schedule(1))("a fox", video=video).videos[0]) == 17, "clips of 1, 8 and 8 frames"
    assert len(pipe("a fox", video=video).videos[0]) == 13, "the model's own schedule has three clips"


def test_bad_beginnings(pipe, tmp_path):
    image, video = Image.new("RGB", (48, 32)), Video(grey_frames(5), 16)
    for problem, arguments in {
        "expected an image or a video to begin with, got both": {"image": image, "video": video},
        "a video that begins with an image has at least 1 second, not 0": {"image": image, "seconds": 0},
        r"begins with 0\.5 seconds of the given video: expected more seconds than that, not 0": {
            "video": video,
            "seconds": 0,
        },
        r"the video has 0\.31 seconds: expected at least 0\.5": {"video": video},
        "a video is a path or a Video, not int": {"video": 3},
        r"cannot read .*missing\.png": {"image": tmp_path / "missing.png"},
        r"cannot read .*missing\.mp4: no such file": {"video": tmp_path / "missing.mp4"},
        "a video has 1 to 10 whole seconds, and an image 0, not 11": {"seconds": 11},
        r"not 0\.5": {"seconds": 0.5},
        "the model generates videos of 48x32 pixels, not 16:9": {"aspect": "16:9"},
        r"unknown pixel budget '0\.60M' of videos": {"budget": "0.60M"},
        "schedule is a SpacetimeSchedule, not": {"schedule": ns.ScaleSchedule.square([1, 2])},
    }.items():
        with pytest.raises(InputError, match=problem):
            pipe("a fox", **arguments)


def test_models_of_images_refuse_videos():
    scales = ns.ScaleSchedule.square([1, 2])
    images = ns.Pipeline(make_image_tokenizer(scales), make_var(scales), device="cpu", dtype="float32")
    with pytest.raises(InputError, match="image is for video models: this one generates images"):
        images(num_images=1, image=Image.new("RGB", (8, 8)))
    with pytest.raises(InputError, match="generates images, not videos of 5 s"):
        images(num_images=1, seconds=5)
    assert len(images(num_images=1, seconds=0).images) == 1
    with pytest.raises(InputError, match="schedule is a ScaleSchedule, not"):
        images(num_images=1, schedule=make_schedule())
    with pytest.raises(InputError, match="tiles is for models that generate images, not videos"):
        make_pipeline(tiles=True)
    with pytest.raises(InputError, match="cuda_graph is for class-conditional models"):
        make_pipeline(cuda_graph=True)


def test_saved_pipelines(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = ns.Pipeline.from_pretrained(tmp_path, "cpu", "float32", text_encoder=pipe.requests.encoder)
    assert loaded.family.name == "infinity-star" and loaded.fingerprint == pipe.fingerprint
    assert loaded.tokenizer.schedule == pipe.tokenizer.schedule
    assert same(loaded("a fox").videos[0], pipe("a fox").videos[0])


def test_aspects_budgets_and_sizes():
    shape = make_pipeline(ns.ScaleSchedule.spacetime("0.06M", 9 / 16, 5)).requests.schedule_of
    assert shape({}) is None
    for options, size, frames in (
        ({"seconds": 0}, (192, 336), 1),
        ({"aspect": "1:1"}, (256, 256), 81),
        ({"aspect": "9:16", "seconds": 7}, (336, 192), 113),
        ({"budget": "0.40M"}, (480, 848), 81),
        ({"size": "1280x720", "seconds": 10}, (720, 1280), 161),
        ({"size": "336x192"}, (192, 336), 81),
        ({"size": "640x640"}, (640, 640), 81),
    ):
        schedule = shape(options)
        assert (schedule.image_size, schedule.frames) == (size, frames)
        ratio, seconds = size[0] / size[1], (frames - 1) // 16
        budget = {14: "0.40M", 15: "0.90M", 11: "0.06M"}[len(schedule.sizes)]
        assert schedule == ns.ScaleSchedule.spacetime(budget, ratio, seconds)


def test_text_features_are_taken(pipe):
    assert len(pipe(make_text(4)).videos) == 1
