"""What scenes show: valid combinations, and those that are held out."""

import numpy as np
import pytest

from nextscale.data.scenes.backgrounds import BACKGROUNDS
from nextscale.data.scenes.objects import OBJECTS, RESERVED, SINGLES, STYLES, THINGS
from nextscale.data.scenes.placing import CLASHES, FLYING
from nextscale.data.scenes.scene import Inventory, Scene, held_out_style, is_held_out, random_scene
from nextscale.errors import InputError


def scenes(split: str, count: int = 400) -> list[Scene]:
    rng = np.random.default_rng(1)
    return [random_scene(rng, split) for _ in range(count)]


def test_there_are_at_least_100_objects_and_no_two_share_a_name_or_a_sprite():
    names = [name for thing in THINGS.values() for name in thing.names]
    assert len(OBJECTS) >= 100
    assert len(set(names)) == len(names)
    assert len({thing.sprite for thing in THINGS.values()}) == len(THINGS)
    assert not (OBJECTS.keys() | SINGLES.keys()) & RESERVED.keys()


def test_tables_name_things_and_backgrounds_that_exist():
    assert set(CLASHES) <= set(BACKGROUNDS)
    assert frozenset().union(*CLASHES.values()) <= set(THINGS)
    assert set(OBJECTS) >= FLYING


def test_training_and_validation_never_show_a_held_out_combination_and_the_other_split_always_does():
    assert not any(map(is_held_out, scenes("train") + scenes("val")))
    assert all(map(is_held_out, scenes("held-out")))
    assert {is_held_out(scene) for scene in scenes("all")} == {True, False}


def test_reserved_things_are_shown_on_request_only():
    assert not any(set(scene.objects) & RESERVED.keys() for scene in scenes("train") + scenes("all"))
    rng, stock = np.random.default_rng(0), Inventory.of(lambda name, style: True, reserved=True)
    assert all("zebra" in random_scene(rng, "train", stock, "zebra").objects for _ in range(20))


def test_each_object_keeps_two_styles():
    lost = [held_out_style(name) for name in OBJECTS]
    assert {*STYLES, None} == set(lost)
    assert 0.15 < sum(style is not None for style in lost) / len(lost) < 0.35


def test_an_order_is_held_out_in_both_wordings():
    rng = np.random.default_rng(0)
    names = list(OBJECTS)
    for _ in range(200):
        a, b = (names[i] for i in rng.choice(len(names), 2, replace=False))
        for one, other in (("left of", "right of"), ("above", "below")):
            first, second = Scene("white", "3d", (a, b), relation=one), Scene("white", "3d", (b, a), relation=other)
            assert first.arrangement == second.arrangement
            assert is_held_out(first) == is_held_out(second)


def test_random_scenes_are_of_all_kinds_and_show_what_is_in_stock_only():
    found = scenes("train", 1500)
    assert {scene.background for scene in found} == set(BACKGROUNDS)
    assert {scene.count for scene in found} == {1, 2, 3, 4}
    assert {scene.relation for scene in found} == {"", "left of", "right of", "above", "below", "flying over"}
    assert any(scene.objects[0] in SINGLES for scene in found)
    assert not any(CLASHES.get(scene.background, frozenset()) & set(scene.objects) for scene in found)
    stock = Inventory.of(lambda name, style: name in ("dog", "cat") and style == "flat")
    rng = np.random.default_rng(2)
    assert {name for _ in range(50) for name in random_scene(rng, "all", stock).objects} == {"dog", "cat"}
    assert {random_scene(rng, "all", stock).style for _ in range(20)} == {"flat"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"background": "mars"}, "unknown background 'mars' in a scene: expected one of white, black, "),
        ({"style": "oil"}, "unknown style 'oil' in a scene: expected one of 3d, flat, noto"),
        ({"objects": ("wug",)}, "unknown object 'wug'"),
        ({"count": 5}, "unknown count 5 in a scene: expected one of 1, 2, 3, 4"),
        ({"objects": ("dog", "cat")}, "unknown relation ''"),
        ({"objects": ("dog", "dog"), "relation": "above"}, "one object or two different ones"),
        ({"relation": "above"}, "cannot have"),
    ],
)
def test_impossible_scenes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Scene(**({"background": "white", "style": "3d", "objects": ("dog",)} | changes))
