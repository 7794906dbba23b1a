"""A table of images that are not what their prompts say."""

from __future__ import annotations

import textwrap
from collections import Counter

from PIL import Image, ImageDraw, ImageFont

from nextscale.evaluation.prompt_report import PromptReport
from nextscale.evaluation.scene_agreement import ASPECTS
from nextscale.evaluation.scene_reader import Reading
from nextscale.imaging.images import WHITE, grid, read_image

SIDE, LINE, CHARACTERS, LINES = 160, 12, 30, 6
SHOWN = 24


def failure_table(report: PromptReport, most: int = SHOWN, columns: int = 6) -> Image.Image | None:
    """Return a grid of images that are wrong, each above its prompt, what was read, and what is wrong.

    Args:
        most: largest number of images. If more are wrong, they are chosen at even distances.

    Returns:
        The grid, or None if all images are right.
    """
    failures = report.failures
    chosen = [failures[i * len(failures) // min(most, len(failures))] for i in range(min(most, len(failures)))]
    return grid([cell(report, number) for number in chosen], columns=columns, gap=4) if chosen else None


def cell(report: PromptReport, number: int) -> Image.Image:
    """Return the first image of a prompt with the text below it."""
    verdict, reading = report.verdicts[number][0], report.readings[number][0]
    wrong = [aspect for aspect in ASPECTS[:-1] if getattr(verdict, aspect) is False] or ["other objects"]
    lines = textwrap.wrap(report.rows[number].prompt, CHARACTERS)[:3]
    lines += textwrap.wrap(f"read: {in_words(reading)}", CHARACTERS)[: LINES - 1 - len(lines)]
    lines.append(f"wrong: {', '.join(wrong)}"[:CHARACTERS])
    sheet = Image.new("RGB", (SIDE, SIDE + LINES * LINE + 4), WHITE)
    sheet.paste(read_image(report.files[number][0]).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((2, SIDE + 2 + i * LINE), line, fill=(40, 40, 40), font=ImageFont.load_default(10))
    return sheet


def in_words(reading: Reading) -> str:
    """Return a reading as text: ``2 dog, 1 cat, flat, grass``."""
    counts = Counter(found.name for found in reading.objects)
    return ", ".join([*(f"{count} {name}" for name, count in counts.items()), reading.style, reading.background])
