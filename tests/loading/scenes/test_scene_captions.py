"""Captions say what a scene shows, and nothing else."""

import numpy as np
import pytest

from nextscale.data.scenes.captions import RELATIONS, STYLES, caption
from nextscale.data.scenes.nouns import article, plural
from nextscale.data.scenes.objects import OBJECTS, THINGS
from nextscale.data.scenes.scene import Scene, random_scene


def wordings(scene: Scene, complete: bool = False, count: int = 200) -> set[str]:
    rng = np.random.default_rng(0)
    return {caption(scene, rng, complete) for _ in range(count)}


def test_one_scene_has_many_wordings():
    texts = wordings(Scene("grass", "flat", ("dog",), count=3))
    assert len(texts) > 50
    assert any("three" in text for text in texts) and any("3 " in text for text in texts)
    assert any("puppies" in text for text in texts) and any("dogs" in text for text in texts)
    assert any("meadow" in text for text in texts)
    assert any(text.startswith("on ") for text in texts)
    assert not any(f"of {word} " in text for text in texts for word in ("on", "in"))


def test_complete_captions_name_style_background_objects_and_relation():
    rng = np.random.default_rng(5)
    for _ in range(300):
        scene = random_scene(rng, "all")
        text = caption(scene, rng, complete=True)
        assert any(style in text for style in STYLES[scene.style])
        assert not any(word in text.split() for other in {"3d", "flat", "noto"} - {scene.style} for word in [other])
        for name in scene.objects:
            nouns = THINGS[name].names
            assert any(noun in text or plural(noun) in text for noun in nouns)


def test_the_order_in_a_caption_is_that_of_the_scene():
    scene = Scene("white", "3d", ("dog", "tree"), relation="left of")
    for text in wordings(scene):
        first = min(text.find(noun) for noun in ("dog", "puppy") if noun in text)
        assert first < text.find("tree") and "left" in text
    assert all(
        "{" not in text
        for relation in RELATIONS
        for text in wordings(Scene("sea", "3d", ("bee", "car"), relation=relation))
    )


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("fox", "foxes"),
        ("puppy", "puppies"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("tomato", "tomatoes"),
        ("cup of coffee", "cups of coffee"),
        ("bus", "buses"),
        ("fish", "fish"),
        ("kite", "kites"),
        ("torch", "torches"),
    ],
)
def test_plurals(noun, expected):
    assert plural(noun) == expected


def test_every_object_has_a_plural_that_differs_unless_english_has_none():
    assert {name for name in OBJECTS if plural(name) == name} == {"fish", "sheep"}
    assert not any("ss of" in plural(name) or plural(name).endswith("ofs") for name in OBJECTS)


def test_articles():
    words = ("owl", "apple", "unicorn", "ufo", "dog", "umbrella")
    assert [article(word) for word in words] == ["an", "an", "a", "a", "a", "an"]
