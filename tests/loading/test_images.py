"""Any image file becomes an upright RGB image or a one-sentence error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused

from nextscale.imaging.images import centre_crop, cover, read_image, save_image, to_pil, to_tensor
from nextscale.imaging.psnr_ssim import psnr

ORANGE = (250, 130, 10)


def pixel(path, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = read_image(path)
    assert image.mode == "RGB"
    value = image.getpixel(at)
    assert isinstance(value, tuple)
    return tuple(map(int, value))


def test_rgb(tmp_path):
    Image.new("RGB", (4, 3), ORANGE).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == ORANGE


def test_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (*ORANGE, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == ORANGE
    assert pixel(tmp_path / "a.png", (1, 0)) == (255, 255, 255)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*ORANGE, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", transparency=1)
    assert pixel(tmp_path / "a.png") == pixel(tmp_path / "b.png") == ORANGE
    assert pixel(tmp_path / "a.png", (1, 0)) == (0, 0, 0)
    assert pixel(tmp_path / "b.png", (1, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"), [("L", 77, (77,) * 3), ("LA", (77, 255), (77,) * 3), ("1", 1, (255,) * 3)]
)
def test_grey(tmp_path, mode, colour, rgb):
    Image.new(mode, (2, 2), colour).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == rgb


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert pixel(tmp_path / "a.tif") == (255, 0, 0)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bits(tmp_path, ending):
    pixels = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    path = tmp_path / f"a{ending}"
    Image.fromarray(pixels).save(path)
    assert [pixel(path, (x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (4, 2), "blue")
    image.paste((255, 0, 0), (0, 0, 1, 2))  # red on the left, which is to be shown at the top
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    shown = read_image(tmp_path / "a.png")
    assert shown.size == (2, 4)
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0)] * 2
    assert shown.getpixel((0, 3)) == (0, 0, 255)


def test_what_cannot_be_read(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"<html></html>")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        with refused(path):
            read_image(path)
    for path in (tmp_path / "missing.png", tmp_path):
        with refused(path):
            read_image(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with refused("a.png"):
        read_image(tmp_path / "a.png")


def test_pixels_survive_the_way_to_tensors_and_back():
    photo = Image.fromarray(np.arange(768, dtype=np.uint16).reshape(16, 16, 3).astype(np.uint8))
    image = to_tensor(photo)
    assert image.shape == (3, 16, 16) and image.min() == -1 and image.max() == 1
    assert to_pil((image[None] + 1) / 2)[0].tobytes() == photo.tobytes()


@pytest.mark.parametrize(("w", "h"), [(30, 20), (20, 30), (7, 100), (5, 5), (36, 18)])
def test_cover_brings_the_shorter_side_to_size(w, h):
    covered = cover(Image.effect_noise((w, h), 50), (18, 18))
    assert min(covered.size) == 18
    assert max(covered.size) == max(18, round(max(w, h) * 18 / min(w, h)))


def test_cover_of_a_rectangle():
    covered = cover(Image.new("L", (100, 40)), (20, 30))
    assert covered.size == (50, 20)
    covered = cover(Image.new("L", (40, 100)), (20, 30))
    assert covered.size == (30, 75)


def test_cover_is_lanczos():
    image = Image.effect_noise((30, 30), 80)
    assert cover(image, (18, 18)).tobytes() == image.resize((18, 18), Image.Resampling.LANCZOS).tobytes()


def test_centre_crop():
    image = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6))
    assert np.asarray(centre_crop(image, (2, 4))).tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]


def test_psnr():
    black, grey = torch.full((1, 3, 4, 4), -1.0), torch.full((1, 3, 4, 4), -1 + 2 * 10 / 255)
    assert psnr(black, grey).item() == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)
    assert psnr(black, black).item() > 100


def test_save_image(tmp_path):
    image = Image.new("RGB", (3, 2), ORANGE)
    save_image(image, tmp_path / "new" / "a.png")
    assert pixel(tmp_path / "new" / "a.png") == ORANGE
    with refused(".xyz", "extensions"):
        save_image(image, tmp_path / "a.xyz")
    (tmp_path / "file").touch()
    with refused("file"):
        save_image(image, tmp_path / "file" / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]
