"""Decoding in strips has no seams: the images are those of whole decoding, up to rounding."""

from __future__ import annotations

import gc

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, random_tokens
from tiny_infinity import DIM, make_infinity, make_text
from tiny_infinity import make_tokenizer as make_bits_tokenizer

import nextscale as ns
from nextscale.acceleration import strips
from nextscale.acceleration.decoding import without_gradients
from nextscale.acceleration.ready import ready_tokenizer
from nextscale.acceleration.strips import Rows, decoding_bytes, moments, upsampled
from nextscale.tokenizer.autoencoder import Upsample, norm
from nextscale.tokenizer.tokenizer import ImageTokenizer

WIDE = ns.ScaleSchedule(((1, 1), (6, 20)))


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small(monkeypatch):
    """Strips of four rows at all levels but the coarsest."""
    monkeypatch.setattr(strips, "WHOLE", 2**12)
    monkeypatch.setattr(strips, "STRIP", 2**11)


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """The heights of strips that were convolved."""
    heights: list[int] = []
    plain = strips.convolved
    monkeypatch.setattr(strips, "convolved", lambda c, x, t, b: heights.append(b - t) or plain(c, x, t, b))
    return heights


TOKENIZERS = {
    "with attention": lambda: make_tokenizer(SCHEDULES["square"]),
    "bits": lambda: make_bits_tokenizer(schedule=WIDE),
    "patchify": lambda: make_bits_tokenizer(patchify=True, schedule=WIDE),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@torch.no_grad()
def test_images_are_those_of_whole_decoding(name, small, read):
    tokenizer = TOKENIZERS[name]()
    canvas = tokenizer.pyramid.empty_canvas(3)
    canvas = random(*canvas.shape)
    whole = ready_tokenizer(tokenizer, torch.float32).decode_canvas(canvas)
    assert not read
    cut = ready_tokenizer(tokenizer, torch.float32, tiles=True)
    torch.testing.assert_close(cut.decode_canvas(canvas), whole, atol=3e-5, rtol=0)
    torch.testing.assert_close(tokenizer.decode_canvas(canvas), whole, atol=3e-5, rtol=0)
    assert len(read) > 2 and max(read) == strips.HALO


@torch.no_grad()
def test_the_starters_weights(monkeypatch, read):
    monkeypatch.setattr(strips, "WHOLE", 2**14)
    monkeypatch.setattr(strips, "STRIP", 2**16)
    tokenizer = ns.Pipeline.from_pretrained("starter").tokenizer
    tokens = random_tokens(tokenizer.schedule, 2)
    whole, cut = without_gradients(tokenizer), without_gradients(tokenizer, tiles=True)
    assert (cut.decode(tokens) - whole.decode(tokens)).abs().max() < 1e-3
    assert len(set(read)) > 1


@torch.no_grad()
def test_bfloat16_is_as_near_to_float32_as_whole_decoding(small):
    tokenizer = make_bits_tokenizer(schedule=WIDE)
    canvas = random(1, DIM, 6, 20)
    right = tokenizer.decode_canvas(canvas)
    whole, cut = (ready_tokenizer(tokenizer, torch.bfloat16, tiles=tiles) for tiles in (False, True))
    off = [(each.decode_canvas(canvas) - right).square().mean().sqrt() for each in (whole, cut)]
    assert off[1] < 1.5 * off[0]


@torch.no_grad()
def test_small_images_are_decoded_at_once(read):
    tokenizer, canvas = make_bits_tokenizer(schedule=WIDE), random(2, DIM, 6, 20)
    whole, cut = (without_gradients(tokenizer, tiles=tiles) for tiles in (False, True))
    assert torch.equal(cut.decode_canvas(canvas[:1]), whole.decode_canvas(canvas[:1]))
    assert not read


@pytest.mark.parametrize("step", [1, 3, 8])
def test_moments_and_upsampled_rows(step):
    x = 5 + random(1, 32, 8, 6)
    groups = norm(32)
    mean, variance = moments(groups, Rows.of(x), step)
    normed = torch.nn.functional.batch_norm(x, mean, variance, groups.weight, groups.bias, eps=groups.eps)
    torch.testing.assert_close(normed, groups(x), atol=1e-5, rtol=1e-5)
    upsample = Upsample(32)
    rows = upsampled(upsample, Rows.of(x))
    parts = [rows.read(*strip) for strip in rows.strips(step)]
    torch.testing.assert_close(torch.cat(parts, 2), upsample(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_fewer_activations_are_alive(small):
    """Counted in tensors that exist at the same time, as large as an activation at full size."""
    tokenizer, canvas = make_bits_tokenizer(schedule=ns.ScaleSchedule(((1, 1), (32, 32)))), random(1, DIM, 32, 32)
    most = []
    gc.freeze()  # what exists already is not searched
    for tiles in (False, True):
        fast, alive = without_gradients(tokenizer, tiles=tiles), []
        activation = fast.config.full_size_numbers()

        def count(*_, alive=alive, activation=activation) -> None:
            stores = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors()}
            alive.append(sum(n for n in stores.values() if n >= 4 * activation) / (4 * activation))

        for module in fast.decoder.modules():
            module.register_forward_hook(count)
        fast.decode_canvas(canvas)
        most.append(max(alive))
    gc.unfreeze()
    assert most[1] <= strips.STORED < most[0]
    assert decoding_bytes(10**9) < 5 * 10**9


def tensors() -> list[torch.Tensor]:
    return [each for each in gc.get_objects() if type(each) is torch.Tensor and each.layout == torch.strided]


def test_a_pipeline_in_tiles(small, read):
    schedule = ns.ScaleSchedule.infinity("0.06M")
    parts = make_bits_tokenizer(schedule=schedule), make_infinity(schedule=schedule)
    whole, cut = (ns.Pipeline(*parts, device="cpu", dtype="float32", tiles=tiles) for tiles in (False, True))
    text = make_text(3, 5)
    for seed in (0, [0, 1]):
        ours, theirs = (pipe.scales(text, seed=seed).result().images for pipe in (cut, whole))
        torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0)
    assert read
    assert isinstance(cut.ready()[0], ImageTokenizer)
