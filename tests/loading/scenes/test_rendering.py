"""Rendered scenes: deterministic, inside the image, objects apart and large enough."""

import numpy as np
import pytest

from nextscale.data.scenes.backgrounds import BACKGROUNDS, LANDSCAPES
from nextscale.data.scenes.layout import Spot, place
from nextscale.data.scenes.render import paint_background, render
from nextscale.data.scenes.scene import Scene, random_scene


def overlap(first: Spot, second: Spot) -> float:
    """Return the length by which two places overlap, negative if they lie apart."""
    gap = max(abs(first.x - second.x), abs(centre(first) - centre(second)))
    return (first.side + second.side) / 2 - gap


def centre(spot: Spot) -> float:
    """Return the y of the centre of a place."""
    return spot.y - spot.side / 2 if spot.stands else spot.y


def test_objects_lie_inside_are_large_enough_and_apart():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        scene = random_scene(rng, "all")
        spots = place(scene, rng)
        assert len(spots) == max(scene.count, len(scene.objects))
        for i, spot in enumerate(spots):
            assert spot.x - spot.side / 2 >= 0 and spot.x + spot.side / 2 <= 1
            assert centre(spot) - spot.side / 2 >= -1e-9 and centre(spot) + spot.side / 2 <= 1
            assert spot.side * 64 >= 20
            assert all(overlap(spot, other) < 0.03 for other in spots[:i])


@pytest.mark.parametrize("background", ["white", "grass", "space"])
def test_places_agree_with_relations(background):
    rng = np.random.default_rng(0)
    for _ in range(50):
        for relation in ("left of", "right of", "above", "below", "flying over"):
            places = {
                spot.name: spot for spot in place(Scene(background, "3d", ("dog", "cat"), relation=relation), rng)
            }
            dog, cat = places["dog"], places["cat"]
            across, down = cat.x - dog.x, centre(cat) - centre(dog)
            far, near = (across, down) if relation in ("left of", "right of") else (down, across)
            assert abs(far) > 0.35 > abs(near)
            assert (far > 0) == (relation in ("left of", "above", "flying over"))


def test_a_rendering_depends_on_the_scene_and_the_random_numbers_only(sprites):
    scene = Scene("grass", "3d", ("dog",), count=2)
    first, again, other = (render(scene, sprites, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.dtype == np.uint8 and first.shape == (64, 64, 3)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_rendering_has_the_size_and_shows_the_sprite(sprites, size):
    pixels = render(Scene("white", "noto", ("dog",), size="large"), sprites, np.random.default_rng(0), size)
    assert pixels.shape == (size, size, 3)
    dog = (np.abs(pixels.astype(int) - (90, 0, 255)).sum(-1) < 12).mean()
    assert 0.25 < dog < 0.45  # an ellipse, 0.7 to 0.82 wide and three quarters as high


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_are_drawn_at_any_size(name):
    small, other, large = paint_background(name, 0, 32), paint_background(name, 1, 32), paint_background(name, 0, 64)
    assert small.shape == (32, 32, 3) and large.shape == (64, 64, 3)
    assert not np.array_equal(small, other)
    reduced = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(reduced - small).mean() < 6
    if name in LANDSCAPES:
        assert small.std() > 10


def test_edges_are_antialiased(sprites):
    pixels = render(Scene("white", "noto", ("dog",)), sprites, np.random.default_rng(3)).astype(int)
    inside, outside = np.abs(pixels - (90, 0, 255)).sum(-1) < 12, pixels.sum(-1) > 690
    between = ~inside & ~outside
    assert 0 < between.mean() < 0.12
