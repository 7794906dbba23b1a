"""The functions of the Inspect tab."""

from __future__ import annotations

import torch
from PIL import Image
from tiny import random_images
from tiny_page import images_of, words_of

from nextscale.analysis.inspection import inspect, token_image
from nextscale.imaging.images import to_pil
from nextscale.tokenizer.usage import CodeUsage
from nextscale.web.studio.inspection import codes, inspect_image


def test_a_row_for_each_scale(model):
    tokenizer = model.pipeline.tokenizer
    image = to_pil((random_images(tokenizer, 1) + 1) / 2)[0]
    original, pyramid, _ = inspect_image(image, model)
    views = inspect(image, tokenizer)
    assert images_of(original)[0].tobytes() == image.tobytes()
    shown = images_of(pyramid)
    assert [p.tobytes() for p in shown[::3]] == [token_image(v.tokens, model.colours).tobytes() for v in views]
    assert [p.tobytes() for p in shown[2::3]] == [view.image.tobytes() for view in views]
    for view in views:
        h, w = view.size
        assert f"{h} × {w} {h * w} token{'s' if h * w > 1 else ''} {view.psnr:.1f} dB" in words_of(pyramid)


def test_codes_are_counted_at_each_scale(model):
    schedule = model.pipeline.tokenizer.schedule
    usage = CodeUsage(schedule, 24)
    usage.add([torch.full((1, n), k) for k, n in enumerate(schedule.tokens_per_scale)])
    words = words_of(codes(usage, model.colours))
    assert "3 × 3 9 1 1.0" in words and "4 of 24 codes are used" in words
    assert words.index("3 · 16×") < words.index("2 · 9×") < words.index("0 · 1×") and "4 · " not in words


def test_a_image_of_any_size(model):
    assert len(images_of(inspect_image(Image.new("RGB", (50, 20)), model)[1])) == 12
