from __future__ import annotations

import pytest
import torch
from tiny import refused
from tiny_star import CHANNELS, make_schedule, make_tokenizer

import nextscale as ns


def make_videos(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, 32, 48, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 17, 21, 33])
@torch.no_grad()
def test_chunks_equal_one_pass(frames):
    tokenizer, videos = make_tokenizer(), make_videos(frames)
    whole = tokenizer.encode_latents(videos, at_once=None)
    assert whole.shape == (1, 64, (frames - 1) // 4 + 1, 2, 3)
    decoded = tokenizer.decode_latents(whole, at_once=None)
    assert decoded.shape == videos.shape
    for at_once in (4, 8, 12):
        torch.testing.assert_close(tokenizer.encode_latents(videos, at_once=at_once), whole, atol=1e-5, rtol=0)
    for at_once in (1, 2, 3):
        torch.testing.assert_close(tokenizer.decode_latents(whole, at_once), decoded, atol=1e-5, rtol=0)


def test_the_future_changes_nothing():
    tokenizer, videos = make_tokenizer(), make_videos(13)
    changed = videos.clone()
    changed[:, :, 9:] = 0
    before, after = tokenizer.encode_latents(videos), tokenizer.encode_latents(changed)
    assert torch.equal(before[:, :, :3], after[:, :, :3]) and not torch.equal(before[:, :, 3], after[:, :, 3])
    latents = before.clone()
    latents[:, :, 2:] = 0
    assert torch.equal(tokenizer.decode_latents(before)[:, :, :5], tokenizer.decode_latents(latents)[:, :, :5])


def test_frames_come_as_they_are_decoded():
    tokenizer = make_tokenizer()
    latents = tokenizer.encode_latents(make_videos(17))
    lengths = [chunk.shape[2] for chunk in tokenizer.decode_chunks(latents, 2)]
    assert lengths == [1, 8, 8]


def test_bits_of_a_video_and_back():
    schedule = make_schedule(4)
    tokenizer, videos = make_tokenizer(schedule), make_videos(schedule.frames, 2)
    bits = tokenizer.encode(videos)
    assert [tuple(b.shape) for b in bits] == [(2, v.num_tokens, (16, 64)[v.quantizer]) for v in schedule.visits]
    assert all(torch.equal(a[:1], b) for a, b in zip(bits, tokenizer.encode(videos[:1]), strict=True))
    decoded = tokenizer.decode(bits)
    assert decoded.shape == videos.shape and decoded.abs().max() <= 1
    first = [b for b, visit in zip(bits, schedule.visits, strict=True) if visit.clip < 2]
    assert tokenizer.decode(first).shape == (2, 3, 9, 32, 48)
    noisy = tokenizer.encode(videos, noise=torch.ones(2, 64, 4, 2, 3))
    assert not all(torch.equal(a, b) for a, b in zip(bits, noisy, strict=True))


def test_a_folder_gives_the_tokenizer_back(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    again = ns.VideoTokenizer.from_pretrained(tmp_path)
    assert again.config == tokenizer.config
    assert all(torch.equal(a, b) for a, b in zip(tokenizer.parameters(), again.parameters(), strict=True))


def test_bad_input():
    tokenizer = make_tokenizer()
    for frames in (2, 4, 16):
        with refused("1, 5, 9", frames):
            tokenizer.encode_latents(torch.zeros(1, 3, frames, 32, 48))
    with refused("multiples of 16", "32 x 40"):
        tokenizer.encode_latents(torch.zeros(1, 3, 1, 32, 40))
    with refused("(B, 3, T, H, W)", "(1, 3, 32, 48)"):
        tokenizer.encode_latents(torch.zeros(1, 3, 32, 48))
    with refused("(B, 3, 13, 32, 48)", "(1, 3, 9, 32, 48)"):
        tokenizer.encode(make_videos(9))
    with refused("multiple of 4", 6):
        tokenizer.encode_latents(make_videos(9), at_once=6)
    bits = tokenizer.encode(make_videos(13))
    with refused("visit 1", "torch.bool", "(1, 1, 16)"):
        tokenizer.decode([bits[0], bits[-1]])
    with refused("visits", len(bits), len(bits) + 1):
        tokenizer.decode([*bits, bits[0]])
    with refused("five widths"):
        ns.VideoTokenizerConfig(CHANNELS[:4])
