"""Which objects fly, and which do not show in front of a background."""

from __future__ import annotations

from collections.abc import Mapping


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split(", "))


FLYING = _names(
    "owl, parrot, eagle, bat, dragon, butterfly, bee, ladybug, airplane, helicopter, rocket, ufo, sun, crescent moon, "
    "star, cloud, rainbow, balloon, kite, ghost, unicorn, umbrella"
)
"""Objects that are placed in the air, and that may fly over others."""
CLASHES: Mapping[str, frozenset[str]] = {
    "orange": _names(
        "egg, key, bell, kangaroo, camel, pretzel, cat, giraffe, croissant, crown, pineapple, cookie, star, "
        "sun, lemon, pumpkin, chick, crescent moon, lightning bolt, basket, goat, trumpet, saxophone, door, "
        "megaphone, deer, tangerine, peach, padlock, scorpion, piece of cheese, palette"
    ),
    "yellow": _names(
        "star, egg, lemon, kangaroo, chick, crescent moon, pizza, camel, goat, key, piece of cheese, bag of money"
    ),
    "red": _names("balloon, heart, teapot, octopus, kangaroo, lobster, book, rose, deer, magnet"),
    "pink": _names("pig, sheep, palette"),
    "grey": _names(
        "elephant, shark, robot, mouse, shoe, koala, castle, rhinoceros, wolf, hippopotamus, bathtub, seal, ring"
    ),
    "white": _names("cloud, ghost, sheep, polar bear, swan, skull, envelope, glass of milk"),
    "brown": _names("bat, chair, bear, horse, eagle, door, teddy bear, scorpion, crocodile, violin"),
    "purple": _names("umbrella, eggplant"),
    "light blue": _names("t-shirt, snowflake, seal"),
    "black": _names("bomb, pair of sunglasses, top hat, spider"),
    "snow": _names("cloud, glass of milk, envelope, swan, t-shirt, polar bear, skull"),
    "desert": _names("egg, kangaroo, key, bell"),
    "moon": _names("spider, ant, top hat, bomb, skateboard"),
    "space": _names("spider, top hat, bomb, pair of sunglasses, ant"),
    "night": _names("spider, ant"),
    "sea": _names("dress"),
    "grass": _names("rhinoceros"),
    "road": _names("rhinoceros, spider"),
    "mountains": _names("rhinoceros"),
    "city": _names("rhinoceros, elephant, spider"),
}
"""Objects that would hardly show in front of a background. Random scenes do not combine them."""
