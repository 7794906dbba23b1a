"""Folders of the official Infinity code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image
from tiny import refused
from tiny_runs import make_images

from nextscale.data.captions import captioned
from nextscale.data.ratio_files import NAME, files_in
from nextscale.data.splits import find_sources, open_buckets, open_splits
from nextscale.imaging.images import infinity_crop, infinity_size
from nextscale.scales.aspect import TEMPLATES, nearest_template

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "infinity" / "data.json").read_text())
SIZES = {template: (sizes[3][0] * 2, sizes[3][1] * 2) for template, sizes in TEMPLATES.items()}


def line(path: str, ratio: float, **fields: object) -> str:
    long = {"long_caption": f"A photo. It is called {path}. It is small.", "long_caption_type": "x"}
    return json.dumps({"image_path": path, "h_div_w": ratio, "text": f"photo {path}", **long, **fields}) + "\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five wide images, and three square ones."""
    make_images(tmp_path / "official" / "wide", 5, size=(30, 20))
    make_images(tmp_path / "official" / "square", 3, seed=1, size=(20, 21))
    root = tmp_path / "official"
    (root / "0.666_000000005.jsonl").write_text("".join(line(f"wide/{i}.png", 20 / 30) for i in range(5)))
    (root / "1.000_000000003.jsonl").write_text("".join(line(f"square/{i}.png", 1.05) for i in range(3)))
    return root


def test_images_and_captions(folder):
    source, val = find_sources(str(folder))
    source = captioned(source)
    assert val is None and len(source) == 8 and source.class_names == ("official",) and not source.notes
    assert source.key(6) == "square/1.png" and source.name(6) == str(folder / "square/1.png")
    assert source.ratio(0) == 20 / 30 and source.read(7).size == (20, 21)
    sentences = ["A photo", " It is called square/0", "png", " It is small"]
    texts = [".".join(sentences[:count]) for count in (3, 4)]
    assert list(source.captions(5)) == ["photo square/0.png", *texts]
    assert pickle.loads(pickle.dumps(source)).key(6) == source.key(6)


def test_examples_at_their_ratio(folder):
    train, _ = open_buckets(folder, SIZES, seed=0)
    assert train.templates == (0.666, 1.0) and train.buckets == [range(0, 5), range(5, 8)]
    wide, square = train[0, 4], train[0, 5]
    assert wide.image.shape[1:] == SIZES[0.666] and square.image.shape[1:] == SIZES[1.0]
    assert (
        "wide/4" in wide.caption and "square/0" in square.caption and wide.template == 0.666 and square.template == 1.0
    )


def test_the_folder_serves_tokenizers_too(folder):
    train, val = open_splits(folder, (8, 8), 0, val_fraction=0.3)
    assert val is not None and len(train) + len(val) == 8 and train[0, 0].image.shape == (3, 8, 8)


def test_lines_that_cannot_be_used_are_named(folder):
    name = "1.000_000000009.jsonl"
    (folder / name).write_text(
        line("square/0.png", 1.1)
        + line("square/1.png", 1.2)  # of the template 1.25
        + "{\n\n"
        + line("square/2.png", 0)
        + line("square/2.png", 1, text=3)
        + json.dumps({"h_div_w": 1, "text": "a"})
    )
    (folder / "1.000_000000003.jsonl").unlink()
    source, _ = find_sources(str(folder))
    assert len(source) == 6
    count, skipped = source.notes
    assert count == f"{name} has 6 lines, but its name says 9"
    for words in (
        "lines (5)",
        "line 2 (h_div_w 1.2 belongs to 1.25)",
        "line 3",
        "line 5 (h_div_w",
        "line 6 (text",
        "line 7",
    ):
        assert words in skipped


def test_no_line_can_be_used(tmp_path):
    (tmp_path / "1.000_000000001.jsonl").write_text("{}")
    with refused("no images", tmp_path, "image_path is not a text"):
        find_sources(str(tmp_path))


def test_a_line_without_a_caption_is_skipped(folder):
    lines = line("square/0.png", 1, long_caption="", text="") + line("square/1.png", 1)
    (folder / "1.000_000000003.jsonl").write_text(lines)
    train, _ = open_splits(folder, (8, 8), 0, captions=True)
    assert train[0, 5].unreadable == (f"{folder / 'square/0.png'} has no caption",)


def test_names_of_parts(tmp_path):
    """Parts of the official code, and their folder beside the files."""
    for path in GOLDEN["part_files"].values():
        assert NAME.fullmatch(Path(path).name)
        (tmp_path / Path(path).name).touch()
    assert [(file.ratio, file.lines) for file in files_in(tmp_path)] == [(1.0, 833), (1.0, 833), (1.0, 834)]
    assert not NAME.fullmatch("train.jsonl") and not NAME.fullmatch("1_25.jsonl")


def test_order_of_the_templates():
    assert list(TEMPLATES) == GOLDEN["templates_in_order"]


def test_a_folder_of_parts(folder):
    (folder / "0001_parts").mkdir()
    (folder / "0001_parts" / "1.000_000000003_0001_0001_000000003.jsonl").write_text(line("square/0.png", 1))
    assert len(find_sources(str(folder))[0]) == 8
    source, _ = find_sources(str(folder / "0001_parts"))
    assert source.name(0) == str(folder / "square/0.png") and source.notes[0].endswith("but its name says 3")


@pytest.mark.parametrize(("ratio", "template"), GOLDEN["nearest_template"])
def test_templates_of_the_reference(ratio, template):
    assert nearest_template(ratio) == template


@pytest.mark.parametrize("case", GOLDEN["resize_and_crop"], ids=lambda case: str(case["picture_w_h"]))
def test_crops_of_the_reference(case):
    w, h = case["picture_w_h"]
    size = tuple(case["target_h_w"])
    assert list(infinity_size((w, h), size)) == case["resized_w_h"]
    image = Image.effect_noise((w, h), 60).convert("RGB")
    top, left = case["crop_y_x"]
    resized = image.resize(tuple(case["resized_w_h"]), Image.Resampling.LANCZOS)
    expected = resized.crop((left, top, left + size[1], top + size[0]))
    assert infinity_crop(image, size).tobytes() == expected.tobytes()
