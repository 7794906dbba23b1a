"""Infinity's templates: scale sizes for 15 aspect ratios and four pixel budgets (arXiv 2412.04431, appendix).

A template is named by its ratio r = height / width. Its 13 grids are in units of 16 pixels. A pixel budget uses the
first grids of a template. Rotary positions always refer to the last of the 13 grids, so that models can change budget.
"""

from __future__ import annotations

import math
import re

from nextscale.errors import InputError, brief

Size = tuple[int, int]

BUDGETS = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}
"""Number of grids of each pixel budget. At ratio 1 they give 256, 512, 768 and 1024 pixels per side."""

UNIT = 16
"""Pixels per side of a grid cell."""

_TALL = {
    1.0: "1,1 2,2 4,4 6,6 8,8 12,12 16,16 20,20 24,24 32,32 40,40 48,48 64,64",
    1.25: "1,1 2,2 3,3 5,4 10,8 15,12 20,16 25,20 30,24 35,28 45,36 55,44 70,56",
    1.333: "1,1 2,2 4,3 8,6 12,9 16,12 20,15 24,18 28,21 36,27 48,36 60,45 72,54",
    1.5: "1,1 2,2 3,2 6,4 9,6 15,10 21,14 27,18 33,22 39,26 48,32 63,42 78,52",
    1.75: "1,1 2,2 3,3 7,4 11,6 14,8 21,12 28,16 35,20 42,24 56,32 70,40 84,48",
    2.0: "1,1 2,2 4,2 6,3 10,5 16,8 22,11 30,15 38,19 46,23 60,30 74,37 90,45",
    2.5: "1,1 2,2 5,2 10,4 15,6 20,8 25,10 30,12 40,16 50,20 65,26 80,32 100,40",
    3.0: "1,1 2,2 6,2 9,3 15,5 21,7 27,9 36,12 45,15 54,18 72,24 90,30 111,37",
}
_WIDE = {1.25: 0.8, 1.333: 0.75, 1.5: 0.666, 1.75: 0.571, 2.0: 0.5, 2.5: 0.4, 3.0: 0.333}
"""The name of the template with height and width swapped, cut to three decimals."""


def _templates() -> dict[float, tuple[Size, ...]]:
    templates: dict[float, tuple[Size, ...]] = {}
    for ratio, text in _TALL.items():
        grids = [tuple(map(int, size.split(","))) for size in text.split()]
        templates[ratio] = tuple((h, w) for h, w in grids)
        if ratio in _WIDE:
            templates[_WIDE[ratio]] = tuple((w, h) for h, w in grids)
    return templates


TEMPLATES = _templates()
"""The 13 grids (h, w) of each template. The order decides ties."""


def nearest_template(ratio: float) -> float:
    """Return the template whose ratio is nearest to ``ratio`` = height / width; the first one on ties.

    Raises:
        InputError: the ratio is not a positive number.
    """
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < math.inf:
        raise InputError(f"an aspect ratio is height / width, a positive number, not {brief(ratio)}")
    return min(TEMPLATES, key=lambda template: abs(ratio - template))


def template_sizes(template: float, budget: str) -> tuple[Size, ...]:
    """Return the grids of a template that a pixel budget uses.

    Raises:
        InputError: there is no such budget.
    """
    if budget not in tuple(BUDGETS):  # JSON may hold a list, which has no hash
        raise InputError(f"unknown pixel budget {brief(budget)}: expected one of {', '.join(BUDGETS)}")
    return TEMPLATES[template][: BUDGETS[budget]]


def parse_aspect(text: str) -> float:
    """Return height / width of an aspect written as width:height, such as "16:9", or as the ratio height / width.

    Raises:
        InputError: the text is neither.
    """
    width, colon, height = text.partition(":")
    try:
        ratio = float(height) / float(width) if colon else float(text)
    except (ValueError, ZeroDivisionError):
        ratio = math.nan
    if not 0 < ratio < math.inf:
        raise InputError(f"an aspect is written WIDTH:HEIGHT, such as 16:9, or as height / width, not {brief(text)}")
    return ratio


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) in pixels of a size written as WIDTHxHEIGHT, such as "1024x768".

    Raises:
        InputError: the text is not of this form.
    """
    sides = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.lower())
    width, height = map(int, sides.groups()) if sides else (0, 0)
    if not (width and height):
        raise InputError(f"a size is written WIDTHxHEIGHT in pixels, such as 1024x768, not {brief(text)}")
    return height, width


def nearest_budget(height: int, width: int) -> tuple[float, str]:
    """Return the template and the budget whose image is nearest to a size: first the ratio, then the number of pixels.

    The distance of two numbers of pixels is that of their logarithms.
    """
    template = nearest_template(height / width)

    def distance(budget: str) -> float:
        h, w = template_sizes(template, budget)[-1]
        return abs(math.log(h * w * UNIT**2 / (height * width)))

    return template, min(BUDGETS, key=distance)
