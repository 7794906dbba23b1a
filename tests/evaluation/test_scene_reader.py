"""The network that reads scenes."""

import pytest
import torch

from nextscale.errors import InputError
from nextscale.evaluation.scene_reader import ReaderConfig, ReaderOutput, SceneReader, find, load_reader, readings
from nextscale.io.module_folder import save_module

CONFIG = ReaderConfig(("dog", "cat"), ("3d", "flat"), ("grass", "sea", "white"), 64, (4, 6, 8), (1, 1))


def make_reader() -> SceneReader:
    return SceneReader(CONFIG).init_weights(torch.Generator().manual_seed(0)).eval()


def cells(*objects: tuple[int, int, int, float], style: int = 0) -> torch.Tensor:
    """Logits of one image with objects (number, row, column, certainty) in a style."""
    logits = torch.zeros(1, 5, 8, 8)
    logits[:, 0] = 8
    for number, row, column, certain in objects:
        logits[0, :, row, column] = -8
        logits[0, 1 + 2 * number + style, row, column] = certain
    return logits


def test_each_peak_is_one_object():
    logits = cells((0, 1, 1, 9.0), (0, 1, 2, 6.0), (1, 6, 6, 12.0), (0, 1, 5, 7.0))
    [found] = find(logits, CONFIG.objects)
    assert [(one.name, one.row, one.column) for one in found] == [("cat", 6, 6), ("dog", 1, 1), ("dog", 1, 5)]
    assert all(0.99 < one.probability <= 1 for one in found)
    assert find(cells(), CONFIG.objects) == [[]]


def test_the_style_is_that_of_the_objects():
    background = torch.tensor([[0.0, 3.0, 1.0]])
    for style, name in enumerate(CONFIG.styles):
        output = ReaderOutput(cells((0, 1, 1, 9.0), (1, 6, 6, 5.0), style=style), background)
        [reading] = readings(CONFIG, output)
        assert (reading.style, reading.background, len(reading.objects)) == (name, "sea", 2)
        faint = cells((0, 2, 3, 3.0), style=style)
        faint[0, 0, 2, 3] = 4
        [reading] = readings(CONFIG, ReaderOutput(faint, background))
        assert reading.objects == () and reading.style == name


def test_a_new_reader_sees_nothing():
    reader = make_reader()
    output = reader(torch.zeros(2, 3, 64, 64))
    assert output.cells.shape == (2, 5, 8, 8) and output.background.shape == (2, 3)
    assert all(reading.objects == () for reading in reader.read(torch.rand(3, 3, 64, 64)))


def test_images_of_other_sizes_are_resized():
    reader = make_reader()
    image = torch.rand(1, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    [reading] = reader.read(torch.rand(1, 3, 96, 128))
    assert reading.style in CONFIG.styles and reading.background in CONFIG.backgrounds
    assert reader.read(image) == reader.read(image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 60}, "must be a multiple of 8, not 60"),
        ({"widths": (4, 6)}, r"three widths and two numbers of blocks, not \(4, 6\)"),
        ({"objects": ("dog", 3)}, r"objects must be one or more texts, not \('dog', 3\)"),
        ({"styles": ()}, r"styles must be one or more texts, not \(\)"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    fields = {"objects": ("dog",), "styles": ("3d",), "backgrounds": ("sea",)}
    with pytest.raises(InputError, match=message):
        ReaderConfig(**(fields | changes))


def test_unfinished_readers_are_refused(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_reader(tmp_path / "none")
    save_module(tmp_path / "reader", CONFIG, make_reader())
    with pytest.raises(InputError, match=r"has no reader\.json: expected a folder that nextscale evaluate reader"):
        load_reader(tmp_path / "reader")
    assert load_reader(tmp_path / "reader", complete=False).config == CONFIG
