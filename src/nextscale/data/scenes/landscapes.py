"""Landscapes painted from random numbers: each function returns a raster of the given size."""

from __future__ import annotations

import numpy as np

from nextscale.data.scenes.raster import Colour, Raster, shade, waves

Rng = np.random.Generator
SKY: tuple[Colour, Colour] = ((118, 190, 245), (205, 234, 252))


def grass(rng: Rng, size: int) -> Raster:
    raster = Raster(size, *SKY)
    raster.hills(waves(rng, 0.5, 0.05), (150, 206, 110))
    raster.hills(waves(rng, 0.6, 0.03, 1.0), (116, 186, 78))
    raster.band(0.68, 1, (104, 177, 68), (84, 156, 54))
    for _ in range(26):
        x, y, tall = rng.uniform(0, 1), rng.uniform(0.68, 1), rng.uniform(0.02, 0.04)
        raster.polygon([(x - 0.012, y), (x, y - tall), (x + 0.012, y)], (72, 140, 46))
    return raster


def beach(rng: Rng, size: int) -> Raster:
    raster = Raster(size, *SKY)
    raster.band(0.42, 0.66, (38, 140, 200), (90, 200, 215))
    shore = waves(rng, 0.63, 0.018, 1.2)
    raster.hills(shore, (250, 252, 250))
    raster.hills(shore + 0.025, (214, 184, 130))
    raster.hills(shore + 0.06, (240, 214, 160))
    for _ in range(16):
        shape = rng.uniform(0.005, 0.011)
        raster.ellipse(rng.uniform(0, 1), rng.uniform(0.74, 1), shape * 1.4, shape, (214, 182, 126))
    return raster


def snow(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (150, 185, 220), (214, 228, 242))
    raster.hills(waves(rng, 0.5, 0.06), (196, 214, 234))
    raster.hills(waves(rng, 0.6, 0.03, 1.1), (226, 236, 247))
    raster.hills(waves(rng, 0.72, 0.02, 0.8), (246, 250, 255))
    for _ in range(34):
        r = rng.uniform(0.006, 0.013)
        raster.ellipse(rng.uniform(0, 1), rng.uniform(0, 0.62), r, r, (255, 255, 255))
    return raster


def desert(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (250, 200, 120), (255, 234, 190))
    left = rng.uniform(0.05, 0.6)
    for x, wide, top in ((left, 0.22, 0.38), (left + 0.28, 0.12, 0.43)):
        raster.polygon([(x, 0.62), (x + 0.03, top), (x + wide - 0.03, top), (x + wide, 0.62)], (206, 122, 78))
    raster.hills(waves(rng, 0.6, 0.04, 1.0), (240, 182, 96))
    dune = waves(rng, 0.72, 0.04, 0.7)
    raster.hills(dune, (230, 164, 76))
    raster.hills(dune + 0.12 + waves(rng, 0, 0.02, 1.1), (220, 150, 62))
    return raster


def moon(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (6, 6, 18), (20, 20, 40))
    stars(raster, rng, 40, 0.6)
    raster.hills(waves(rng, 0.6, 0.025, 0.9), (168, 170, 178))
    raster.hills(waves(rng, 0.74, 0.02, 0.7), (148, 150, 158))
    for _ in range(7):
        x, y, r = rng.uniform(0, 1), rng.uniform(0.68, 0.98), rng.uniform(0.03, 0.075)
        raster.ellipse(x, y, r, r * 0.45, (112, 114, 124))
        raster.ellipse(x, y + r * 0.12, r * 0.88, r * 0.34, (132, 134, 144))
    return raster


def night(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (14, 20, 62), (54, 66, 138))
    stars(raster, rng, 36, 0.6)
    raster.hills(waves(rng, 0.62, 0.05), (28, 40, 84))
    raster.hills(waves(rng, 0.74, 0.025, 0.9), (20, 44, 62))
    raster.band(0.84, 1, (18, 40, 54), (14, 32, 44))
    return raster


def road(rng: Rng, size: int) -> Raster:
    raster = Raster(size, *SKY)
    raster.hills(waves(rng, 0.46, 0.03), (140, 196, 120))
    raster.band(0.54, 1, (126, 188, 92), (104, 168, 74))
    raster.band(0.62, 0.63, (214, 214, 208))
    raster.band(0.63, 0.99, (104, 106, 114), (80, 82, 90))
    raster.band(0.96, 0.98, (214, 214, 208))
    start = rng.uniform(-0.2, 0)
    for i in range(6):
        x = start + 0.26 * i
        raster.polygon([(x, 0.83), (x + 0.13, 0.83), (x + 0.115, 0.8), (x + 0.005, 0.8)], (250, 246, 226))
    return raster


def sea(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (120, 196, 246), (222, 242, 252))
    raster.band(0.48, 1, (40, 132, 206), (14, 78, 152))
    for row in range(5):
        y = 0.54 + 0.1 * row
        line = y + 0.014 * np.abs(np.sin(np.linspace(0, np.pi * (7 - row * 0.7), 97) + rng.uniform(0, np.pi)))
        colour = shade((92, 176, 232), 1 - 0.09 * row)
        xs = np.linspace(0, 1, 97).tolist()
        upper = list(zip(xs, line.tolist(), strict=True))
        raster.polygon([*upper, *((x, y + 0.016) for x, y in reversed(upper))], colour)
    return raster


def forest(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (196, 222, 196), (150, 194, 154))
    rows: tuple[tuple[float, Colour, float], ...] = (
        (0.6, (128, 176, 136), 0.34),
        (0.68, (88, 144, 102), 0.42),
        (0.74, (52, 110, 74), 0.5),
    )
    for base, colour, tall in rows:
        for x in np.arange(-0.05, 1.1, 0.17) + rng.uniform(-0.04, 0.04, 7):
            height, half = tall * rng.uniform(0.8, 1.1), rng.uniform(0.09, 0.12)
            for part in (0.0, 0.3, 0.55):
                wide = half * (1 - part * 0.8)
                bottom = base - part * height
                raster.polygon([(x - wide, bottom), (x, bottom - 0.5 * height), (x + wide, bottom)], colour)
    raster.band(0.73, 1, (60, 96, 50), (44, 74, 38))
    return raster


def room(rng: Rng, size: int) -> Raster:
    walls: tuple[Colour, ...] = ((238, 218, 186), (226, 206, 196), (206, 220, 214))
    wall = walls[int(rng.integers(len(walls)))]
    raster = Raster(size, wall, shade(wall, 0.95))
    start = rng.uniform(0, 0.1)
    for i in range(11):
        raster.rectangle(start + 0.1 * i - 0.02, 0, start + 0.1 * i + 0.02, 0.66, shade(wall, 0.965))
    raster.band(0.66, 0.7, (250, 246, 238))
    raster.band(0.7, 1, (178, 124, 78), (156, 102, 60))
    for x in np.arange(-6, 17) * 0.1 + start:
        far, near = x, 0.5 + (x - 0.5) * 1.7
        raster.polygon([(far, 0.7), (far + 0.006, 0.7), (near + 0.014, 1), (near, 1)], (146, 96, 58))
    return raster


def city(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (166, 204, 236), (236, 232, 224))
    for low, colour, window in ((0.3, (160, 178, 204), None), (0.42, (104, 124, 160), (250, 226, 150))):
        x = rng.uniform(-0.1, 0)
        while x < 1:
            wide, top = rng.uniform(0.12, 0.2), low + rng.uniform(-0.08, 0.14)
            raster.rectangle(x, top, x + wide, 0.8, colour)
            if window:
                for y in np.arange(top + 0.04, 0.7, 0.07):
                    for column in np.arange(x + 0.025, x + wide - 0.03, 0.05):
                        raster.rectangle(column, y, column + 0.025, y + 0.035, window)
            x += wide + rng.uniform(0, 0.02)
    raster.band(0.74, 0.78, (196, 196, 198))
    raster.band(0.78, 1, (136, 138, 146), (116, 118, 126))
    return raster


def underwater(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (60, 190, 214), (8, 82, 140))
    for x in rng.uniform(0, 1, 3):
        raster.polygon([(x, 0), (x + 0.08, 0), (x - 0.02, 0.8), (x - 0.16, 0.8)], (66, 180, 208))
    raster.hills(waves(rng, 0.86, 0.02, 0.9), (216, 194, 136))
    for x in rng.uniform(0, 1, 5):
        tall, lean = rng.uniform(0.12, 0.26), rng.uniform(-0.05, 0.05)
        raster.polygon([(x - 0.02, 0.92), (x + lean, 0.92 - tall), (x + 0.02, 0.92)], (30, 142, 96))
    for _ in range(12):
        r = rng.uniform(0.008, 0.018)
        raster.ellipse(rng.uniform(0, 1), rng.uniform(0, 0.8), r, r, (168, 230, 240))
    return raster


def space(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (34, 14, 66), (66, 24, 98))
    for _ in range(3):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.14, 0.26)
        for i in range(6):
            part = 1 - i / 6
            raster.ellipse(x, y, r * part * 1.5, r * part, (66 + 8 * i, 26 + 3 * i, 104 + 8 * i))
    stars(raster, rng, 60, 1)
    return raster


def sunset(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (94, 54, 128), (250, 130, 90))
    raster.band(0.3, 0.66, (190, 84, 116), (255, 204, 110))
    raster.band(0, 0.3, (100, 60, 136), (190, 84, 116))
    raster.hills(waves(rng, 0.62, 0.03), (122, 60, 92))
    raster.hills(waves(rng, 0.74, 0.02, 0.9), (84, 42, 74))
    raster.band(0.84, 1, (72, 36, 66), (56, 28, 54))
    return raster


def mountains(rng: Rng, size: int) -> Raster:
    raster = Raster(size, (96, 166, 226), (214, 234, 248))
    start = rng.uniform(-0.15, 0.1)
    for x, tall in ((start + 0.2, 0.42), (start + 0.95, 0.4), (start + 0.58, 0.54)):
        tall *= rng.uniform(0.88, 1.05)
        top, half = 0.74 - tall, tall * 0.85
        raster.polygon([(x - half, 0.74), (x, top), (x + half, 0.74)], (122, 134, 158))
        raster.polygon([(x, top), (x + half, 0.74), (x + half * 0.2, 0.74)], (98, 110, 136))
        snow_line = [(x - half * 0.32, top + tall * 0.32), (x, top), (x + half * 0.32, top + tall * 0.32)]
        jagged = [(x + half * 0.1, top + tall * 0.24), (x - half * 0.1, top + tall * 0.34)]
        raster.polygon([*snow_line, *jagged], (250, 252, 255))
    raster.hills(waves(rng, 0.7, 0.02), (112, 172, 96))
    raster.band(0.8, 1, (98, 158, 82), (80, 138, 66))
    return raster


def stars(raster: Raster, rng: Rng, count: int, lowest: float) -> None:
    """Paint stars as dots, from the top to ``lowest``."""
    for _ in range(count):
        r, light = rng.uniform(0.004, 0.01), rng.uniform(180, 255)
        raster.ellipse(rng.uniform(0, 1), rng.uniform(0, lowest), r, r, (light, light, min(light * 1.05, 255)))
