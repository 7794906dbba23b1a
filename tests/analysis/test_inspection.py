"""Views of the tokens of an image at each scale."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tiny import random_images

from nextscale.analysis.inspection import code_colours, fit, heat_images, inspect, token_image
from nextscale.imaging.images import to_pil, to_tensor


def test_views_are_those_of_the_tokenizer(tiny_tokenizer):
    image = to_pil((random_images(tiny_tokenizer, 1) + 1) / 2)[0]
    views = inspect(image, tiny_tokenizer)
    tokens = tiny_tokenizer.encode(to_tensor(image)[None])
    assert [view.size for view in views] == list(tiny_tokenizer.schedule.sizes)
    assert all(torch.equal(view.tokens.flatten(), t[0]) for view, t in zip(views, tokens, strict=True))
    assert views[-1].image.tobytes() == to_pil((tiny_tokenizer.decode(tokens) + 1) / 2)[0].tobytes()
    steps = list(tiny_tokenizer.pyramid.accumulate(tokens))
    assert all(torch.equal(v.gain, s.gain[0].norm(dim=0)) for v, s in zip(views, steps, strict=True))


def test_psnr_is_that_of_the_image_that_is_shown(tiny_tokenizer):
    image = to_pil((random_images(tiny_tokenizer, 1) + 1) / 2)[0]
    for view in inspect(image, tiny_tokenizer):
        difference = np.asarray(image, dtype=float) - np.asarray(view.image, dtype=float)
        assert abs(view.psnr - 10 * np.log10(255**2 / (difference**2).mean())) < 0.05


def test_a_image_of_any_size_is_cropped_to_the_model_s(tiny_tokenizer):
    h, w = tiny_tokenizer.config.image_size
    assert fit(Image.new("RGB", (3 * w + 7, h + 1)), tiny_tokenizer).size == (w, h)


def test_colours_tell_codes_apart_and_do_not_change(tiny_tokenizer):
    colours = code_colours(tiny_tokenizer)
    assert colours.shape == (24, 3) and colours.dtype == torch.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == 24
    assert torch.equal(colours, code_colours(tiny_tokenizer))


def test_colours_are_ranks_along_the_principal_axes(tiny_tokenizer):
    """So that similar codes have similar colours: red along the axis of the largest variance, then green and blue."""
    codes = tiny_tokenizer.pyramid.codebook.weight.detach().double().numpy()
    colours = code_colours(tiny_tokenizer).numpy()
    centred = codes - codes.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1].T[::-1]
    for channel, axis in enumerate(axes[:3]):
        order = np.argsort(codes @ (axis * np.sign(axis.sum())))
        assert colours[order, channel].tolist() == np.linspace(40, 240, len(codes)).round().astype(int).tolist()


def test_a_token_map_has_a_pixel_for_each_token():
    colours = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=torch.uint8)
    image = token_image(torch.tensor([[0, 1, 2], [2, 2, 2]]), colours)
    assert image.size == (3, 2) and image.getpixel((1, 0)) == (255, 0, 0) and image.getpixel((0, 1)) == (0, 255, 0)


def test_heat_is_dark_where_most_is_added_over_all_scales():
    small, large = heat_images([torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0]])])
    assert small.getpixel((0, 0)) == (255, 255, 255) == large.getpixel((1, 0))
    assert large.getpixel((0, 0)) < small.getpixel((1, 0)) < (255, 255, 255)  # type: ignore[operator]


def test_heat_of_nothing_is_white():
    assert heat_images([torch.zeros(1, 1)])[0].getpixel((0, 0)) == (255, 255, 255)
