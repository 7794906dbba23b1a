"""HTML of images and figures."""

from __future__ import annotations

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_page import images_of, words_of

from nextscale.web.studio import figures

RED = Image.new("RGB", (8, 8), (255, 0, 0))
EVIL = "<script>alert('\"')</script>"


def test_the_image_in_the_page_is_the_image():
    shown = figures.grid([figures.Figure(RED, "dress", "seed 7", file="dress-7.png")])
    (image,) = images_of(shown)
    assert image.tobytes() == RED.tobytes()
    assert words_of(shown) == "dress seed 7 PNG" and 'download="dress-7.png"' in shown


def test_metadata_is_in_the_image():
    info = PngInfo()
    info.add_text("nextscale", "how")
    (image,) = images_of(figures.grid([figures.Figure(RED, "dress", info=info)]))
    assert image.info["nextscale"] == "how"


def test_every_image_says_what_it_shows():
    assert 'alt="dress seed 7"' in figures.grid([figures.Figure(RED, "dress", "seed 7")])


def test_a_image_to_come_leaves_its_place():
    shown = figures.grid([figures.Figure(None, "dress", file="x.png")])
    assert "ns-empty" in shown and not images_of(shown) and "download" not in shown


def test_no_text_becomes_markup():
    shown = [
        figures.grid([figures.Figure(RED, EVIL, EVIL, file=EVIL)]),
        figures.status(EVIL),
        figures.hint(EVIL),
        figures.table(EVIL, (EVIL,), ((EVIL,),)),
    ]
    assert not any("<script" in html for html in shown)


def test_small_images_are_enlarged_pixel_by_pixel():
    assert "ns-small" in figures.image(RED, "") and "ns-small" not in figures.image(RED.resize((256, 256)), "")


def test_the_status_is_read_out():
    assert 'role="status"' in figures.status("scale 3 of 6") and "width:50%" in figures.status("", 0.5)


def test_every_image_can_be_enlarged_with_the_keyboard():
    shown = figures.grid([figures.Figure(RED, "dress", "seed 7"), figures.Figure(None, "to come")])
    assert shown.count("<button") == 1 and 'aria-label="Enlarge dress seed 7"' in shown


def test_file_names_have_a_length_that_every_disk_takes():
    assert figures.file_name("tench, Tinca tinca", 7) == "tench-Tinca-tinca-7.png"
    assert figures.file_name("衣" * 300, 7) == "衣" * 60 + "-7.png"
    assert figures.file_name("x" * 59 + " y", 7) == "x" * 59 + "-7.png"


def test_file_names_are_plain():
    assert figures.file_name("t-shirt", 7) == "t-shirt-7.png"
    assert figures.file_name("../a b", 7) == "a-b-7.png" and figures.file_name("/", 7) == "image-7.png"
