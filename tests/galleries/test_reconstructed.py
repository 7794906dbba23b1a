"""Reconstructed images, and the measurements of each image."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer
from tiny_infinity import make_tokenizer as make_bits_tokenizer
from tiny_runs import make_images

from nextscale.evaluation.reconstruction import BitReconstruction
from nextscale.galleries.dataset import open_crops
from nextscale.galleries.reconstructed import ReconstructedImages, fold_notes
from nextscale.imaging.images import to_unit_range
from nextscale.imaging.psnr_ssim import psnr, ssim
from nextscale.tokenizer.usage import BitUsage, CodeUsage

TOKENIZER = make_tokenizer(SCHEDULES["square"])
SIZE = TOKENIZER.config.image_size


@pytest.fixture
def images(tmp_path) -> ReconstructedImages:
    folder = make_images(tmp_path / "photos", 6)
    (folder / "2.png").write_bytes(b"no image")
    return ReconstructedImages(open_crops(str(folder), None, SIZE, "centre", lambda _: None), TOKENIZER, None)


def test_images_and_notes(images):
    read = images.read(range(6))
    assert read.indices.tolist() == [0, 1, 3, 4, 5]
    images = to_unit_range(images.originals.read(range(6)).pixels)
    tokens = TOKENIZER.encode(images)
    decoded = TOKENIZER.decode(tokens)
    torch.testing.assert_close(to_unit_range(read.pixels), decoded, atol=1 / 255, rtol=0)
    torch.testing.assert_close(read.notes["psnr"][:, -1], psnr(decoded, images))
    torch.testing.assert_close(read.notes["ssim"], ssim(decoded, images))
    assert torch.equal(read.notes["tokens"], torch.cat(tokens, 1).int()) and read.notes.keys() == {
        "psnr",
        "ssim",
        "tokens",
    }
    first = TOKENIZER.decode_canvas(next(TOKENIZER.pyramid.accumulate(tokens)).canvas)
    torch.testing.assert_close(read.notes["psnr"][:, 0], psnr(first, images))


def test_without_notes_the_images_are_the_same(images):
    read = ReconstructedImages(images.originals, TOKENIZER, noted=False).read(range(6))
    assert torch.equal(read.pixels, images.read(range(6)).pixels) and not read.notes


def test_images_of_which_none_can_be_read(images):
    assert len(images.read([2]).pixels) == 0


def test_what_the_notes_come_to(images):
    parts = [images.read(part).notes for part in (range(4), range(4, 6))]
    figures = fold_notes(parts, TOKENIZER)
    read, schedule = images.read(range(6)), TOKENIZER.schedule
    assert figures.psnr == pytest.approx(read.notes["psnr"][:, -1].mean().item()) and figures.lpips is None
    assert figures.ssim == pytest.approx(read.notes["ssim"].mean().item())
    assert figures.bits_per_pixel == pytest.approx(30 * math.log2(24) / 64)
    usage = CodeUsage(schedule, 24)
    usage.add([read.notes["tokens"][:, part].long() for part in schedule.slices])
    assert figures.unused == usage.unused() and figures.codes == 24
    assert [scale.perplexity for scale in figures.scales] == pytest.approx(usage.perplexity().tolist())
    assert [scale.usage for scale in figures.scales] == usage.used().tolist()
    assert [scale.psnr for scale in figures.scales] == pytest.approx(read.notes["psnr"].mean(0).tolist())
    assert [scale.size for scale in figures.scales] == list(schedule.sizes)
    assert any("1x1" in line for line in figures.lines())


def test_bits(images):
    tokenizer = make_bits_tokenizer()
    crops = open_crops(str(images.originals.source.root), None, tokenizer.config.image_size, "centre", lambda _: None)
    notes = ReconstructedImages(crops, tokenizer).read(range(6)).notes
    assert notes["tokens"].shape == (5, 14, 6) and notes["tokens"].dtype == torch.uint8
    figures = fold_notes([notes], tokenizer)
    assert isinstance(figures, BitReconstruction)
    usage = BitUsage(3, 6)
    usage.add([notes["tokens"][:, part].bool() for part in tokenizer.schedule.slices])
    assert [scale.ones for scale in figures.scales] == usage.figures()["ones"]
    assert [scale.entropy for scale in figures.scales] == usage.figures()["bit_entropy"]
    assert (figures.bits, figures.codes, figures.unused) == (6, 2, usage.stuck())
    assert figures.bits_per_pixel == pytest.approx(14 * 6 / 144)
    assert any("stuck bits" in line and "of 6" in line for line in figures.lines())


def test_lpips_is_noted_with_weights_for_it(images):
    class Mean(torch.nn.Module):
        def forward(self, x, y):
            return (x - y).abs().mean((1, 2, 3))

    other = ReconstructedImages(images.originals, TOKENIZER, Mean())  # type: ignore[arg-type]
    notes = other.read(range(6)).notes
    assert fold_notes([notes], TOKENIZER).lpips == pytest.approx(notes["lpips"].mean().item())
    assert other.made_from != images.made_from
