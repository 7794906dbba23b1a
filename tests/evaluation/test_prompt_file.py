"""Files of prompts, and the images that belong to them."""

import json

import pytest
from PIL import Image

from nextscale.errors import InputError
from nextscale.evaluation.prompt_file import images_of, path_of, read_rows


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) if isinstance(line, dict) else line for line in lines))
    return path


def test_text_has_a_prompt_in_each_line(tmp_path):
    rows = read_rows(write(tmp_path / "a.txt", "a dog", "", "two cats"))
    assert [row.prompt for row in rows] == ["a dog", "two cats"] and rows[0].fields == {}


def test_lines_of_json_keep_their_fields(tmp_path):
    line = {"prompt": "a photo of a bench", "tag": "single_object", "include": [{"class": "bench", "count": 1}]}
    assert read_rows(write(tmp_path / "a.jsonl", line))[0].fields == line


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("{",), "line 1 of .* is not JSON"),
        (({"prompt": "a"}, {"text": "b"}), 'line 2 of .* must be an object with a text "prompt"'),
        (({"prompt": " "},), "prompt 0 is empty"),
        ((" ",), "has no prompt"),
    ],
)
def test_invalid_files_are_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_rows(write(tmp_path / "a.jsonl", *lines))


def test_images_are_named_by_their_lines_or_lie_in_folders_of_prompts(tmp_path):
    rows = read_rows(write(tmp_path / "a.jsonl", {"prompt": "a", "file": "x.png"}, {"prompt": "b", "file": "y.png"}))
    for name in ("x.png", "y.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert images_of(tmp_path, rows, 1, named=True) == [[tmp_path / "x.png"], [tmp_path / "y.png"]]
    with pytest.raises(InputError, match="one image of each prompt: expected --tries 1, not 2"):
        images_of(tmp_path, rows, 2, named=True)
    with pytest.raises(InputError, match="no image"):
        images_of(tmp_path, rows, 1)  # images of a model never are those of the lines
    other = tmp_path / "other"
    with pytest.raises(InputError, match=r"no image .*00000/samples/00000\.png, which belongs to prompt 0: a"):
        images_of(other, rows, 1)
    for number in range(2):
        for attempt in range(2):
            path_of(other, number, attempt).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path_of(other, number, attempt))
    assert images_of(other, rows, 2)[1] == [other / "00001/samples/00000.png", other / "00001/samples/00001.png"]
