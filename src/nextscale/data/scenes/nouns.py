"""Plurals and articles of English nouns, as captions need them."""

from __future__ import annotations

from collections.abc import Mapping

IRREGULAR: Mapping[str, str] = {
    "fish": "fish",
    "sheep": "sheep",
    "octopus": "octopuses",
    "mouse": "mice",
    "cactus": "cacti",
    "bunch of grapes": "bunches of grapes",
    "cup of coffee": "cups of coffee",
    "slice of watermelon": "slices of watermelon",
}


def plural(noun: str) -> str:
    """Return the plural of a noun: ``fox`` -> ``foxes``."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh", "tomato")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def article(noun: str) -> str:
    """Return the indefinite article of a noun phrase: ``an`` before a vowel."""
    return "an" if noun[0] in "aeiou" and not noun.startswith(("unicorn", "ufo", "one")) else "a"
