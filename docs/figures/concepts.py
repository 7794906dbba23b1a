"""Plot the figures of ``docs/concepts.md`` with the starter: ``python docs/figures/concepts.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from drawing import (
    ACCENT,
    ACCENT_LIGHT,
    GREY,
    HIGHLIGHT,
    INK,
    LINE,
    WIDTH,
    Palette,
    arrow,
    box,
    name_of,
    put_image,
    put_map,
    save,
    sheet,
    write,
)
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import nextscale as ns
from nextscale.imaging.images import to_pil
from nextscale.transformer.var import guidance_ramp


class Concepts:
    """The starter, an image sampled from it, and the tokens of that image."""

    def __init__(self) -> None:
        self.pipe = ns.Pipeline.from_pretrained("starter", device="cpu")
        self.tokenizer, self.schedule = self.pipe.tokenizer, self.pipe.tokenizer.schedule
        self.pyramid = self.tokenizer.pyramid
        result = self.pipe(labels=["longsleeve"], cfg=5.0, top_p=0.85, seed=[0])
        self.image, self.tokens = result.images[0], result.tokens
        with torch.no_grad():
            self.palette = Palette.of(self.pyramid.codebook.weight)
            self.steps = list(self.pyramid.accumulate(self.tokens))
            self.codes = [self.pyramid.codebook.codes(tokens)[0] for tokens in self.tokens]

    def code_colours(self, k: int) -> np.ndarray:
        """The code vectors of scale k, (h_k, w_k, 3)."""
        return self.palette(self.codes[k]).reshape(*self.schedule.sizes[k], 3)

    def grid_colours(self, grid: torch.Tensor) -> np.ndarray:
        """A canvas or a gain, (1, D, h, w) -> (h, w, 3)."""
        return self.palette(grid[0].permute(1, 2, 0))

    def decoded(self, k: int) -> Image.Image:
        """The canvas after scale k as an image."""
        with torch.no_grad():
            return to_pil((self.tokenizer.decode_canvas(self.steps[k].canvas) + 1) / 2)[0]

    # ---- the figures ---------------------------------------------------------------------------------------------

    def draw_pyramid(self) -> Figure:
        """Image and feature grid above, the token maps below them, the sequence at the bottom."""
        figure, axes = sheet(3.75)
        side = 0.95
        put_image(axes, self.image, (0.35, 2.6), side)
        write(axes, (0.35 + side / 2, 2.43), "64 × 64 pixels", 9, GREY)
        put_map(axes, self.grid_colours(self.steps[-1].canvas), (3.7, 2.6), side)
        write(axes, (3.7 + side / 2, 2.43), "8 × 8 vectors", 9, GREY)
        for y, start, end, words in ((3.25, 1.45, 3.55, "encoder"), (2.9, 3.55, 1.45, "decoder")):
            arrow(axes, (start, y), (end, y))
            write(axes, (2.5, y + 0.13), words)
        codes = f"{self.tokenizer.config.codebook_size:,}"
        write(axes, (0.18, 2.05), f"six token maps:\neach token is one of {codes} codes", 9, GREY, ha="left")
        cell, gap, x = 0.135, 0.235, 0.18
        start, width = 0.18, (WIDTH - 0.36) / self.schedule.num_tokens
        for k, size in enumerate(self.schedule.sizes):
            colours = self.code_colours(k)
            map_side = cell * size[0]
            put_map(axes, colours, (x, 0.95), map_side)
            write(axes, (x + map_side / 2, 0.95 + map_side + 0.13), name_of(size), 9)
            where = self.schedule.slices[k]
            left, right = start + where.start * width, start + where.stop * width
            for a, b in ((x, left), (x + map_side, right)):
                axes.plot([a, b], [0.93, 0.62], color=LINE, linewidth=0.8, zorder=0)
            for i, colour in enumerate(colours.reshape(-1, 3)):
                axes.add_patch(Rectangle((left + i * width, 0.37), width, 0.24, facecolor=colour, linewidth=0))
            axes.add_patch(Rectangle((left, 0.37), right - left, 0.24, fill=False, edgecolor=INK, linewidth=0.8))
            x += map_side + gap
        write(axes, (WIDTH / 2, 0.19), f"one sequence of L = {self.schedule.num_tokens} tokens, coarse to fine")
        return figure

    def draw_canvas(self) -> Figure:
        """Codes, gain, canvas and decoded canvas of each scale."""
        figure, axes = sheet(3.72)
        side, step, left = 0.58, 0.685, 0.87
        rows = {"codes": 2.76, "gain": 1.96, "canvas": 1.16, "decoded": 0.36}
        words = {"codes": "codes\neₖ", "gain": "gain\nhₖ", "canvas": "canvas\nf̂ₖ", "decoded": "decoded"}
        for name, y in rows.items():
            write(axes, (0.42, y + side / 2), words[name], 10)
        for k, size in enumerate(self.schedule.sizes):
            x = left + k * step
            middle = x + side / 2
            write(axes, (middle, 3.5), name_of(size), 10)
            small = side * (0.4 + 0.6 * k / (self.schedule.num_scales - 1))
            put_map(axes, self.code_colours(k), (middle - small / 2, rows["codes"] + (side - small) / 2), small)
            put_map(axes, self.grid_colours(self.steps[k].gain), (x, rows["gain"]), side)
            put_map(axes, self.grid_colours(self.steps[k].canvas), (x, rows["canvas"]), side, ACCENT)
            put_image(axes, self.decoded(k), (x, rows["decoded"]), side)
            for above, below in (("codes", "gain"), ("gain", "canvas"), ("canvas", "decoded")):
                start = rows[above] + ((side - small) / 2 if above == "codes" else 0) - 0.02
                arrow(axes, (middle, start), (middle, rows[below] + side + 0.02))
            if k:
                arrow(
                    axes,
                    (x - step + side + 0.01, rows["canvas"] + side / 2),
                    (x - 0.01, rows["canvas"] + side / 2),
                    ACCENT,
                )
        write(axes, (WIDTH / 2, 0.14), "f̂ₖ = f̂ₖ₋₁ + hₖ", 10, ACCENT)
        return figure

    def draw_walk(self, k: int = 4) -> Figure:
        """One step of the walk, and how each task chooses the codes."""
        figure, axes = sheet(3.1)
        side, step, left, y = 0.58, 1.08, 0.05, 2.12
        with torch.no_grad():
            look = self.pyramid.look(self.steps[k - 1].canvas, self.pyramid.schedule.visits[k])
        size = self.schedule.sizes[k]
        maps = {
            "canvas f̂₄": self.grid_colours(self.steps[k - 1].canvas),
            f"look at {name_of(size)}": self.palette(look[0]).reshape(*size, 3),
            f"codes {name_of(size)}": self.code_colours(k),
            "gain h₅": self.grid_colours(self.steps[k].gain),
            "canvas f̂₅": self.grid_colours(self.steps[k].canvas),
        }
        middles = []
        for i, (name, colours) in enumerate(maps.items()):
            x = left + i * step
            middles.append(x + side / 2)
            put_map(axes, colours, (x, y), side, ACCENT if "canvas" in name else INK)
            write(axes, (x + side / 2, y + side + 0.15), name, 9)
        for i, (name, colour) in enumerate((("look", INK), ("choose", HIGHLIGHT), ("up, φ", INK), ("add", INK))):
            a, b = middles[i] + side / 2 + 0.03, middles[i + 1] - side / 2 - 0.03
            arrow(axes, (a, y + side / 2), (b, y + side / 2), colour if colour == HIGHLIGHT else GREY)
            write(axes, ((a + b) / 2, y + side / 2 + 0.15), name, 9, colour)
        axes.plot([middles[4], middles[4], middles[0]], [y - 0.03, y - 0.22, y - 0.22], color=GREY, linewidth=1.2)
        arrow(axes, (middles[0], y - 0.22), (middles[0], y - 0.02))
        write(axes, (WIDTH / 2, y - 0.34), "the next scale", 9, GREY)
        box(axes, (0.05, 0.05), (WIDTH - 0.1, 1.42), "#fff3e0", HIGHLIGHT)
        write(axes, (0.2, 1.28), "How are the codes of a scale chosen?", 10, HIGHLIGHT, ha="left", weight="bold")
        answers = {
            "encoding": "the nearest codes to the residual",
            "decoding, training": "codes of the given tokens",
            "sampling": "sampled from the transformer's logits",
            "editing": "sampled, except for kept tokens",
        }
        for i, (task, answer) in enumerate(answers.items()):
            write(axes, (0.2, 1.0 - 0.25 * i), task, 9.5, ha="left")
            write(axes, (1.72, 1.0 - 0.25 * i), answer, 9.5, ha="left")
        return figure

    def draw_training(self) -> Figure:
        """The scales that each scale attends to, in one training pass and in the passes of sampling."""
        figure, axes = sheet(2.75)
        side, bottom, lefts = 1.72, 0.5, (0.88, 2.88)
        units = [h + 1 for h, _ in self.schedule.sizes]
        edges = np.cumsum([0, *units]) * side / sum(units)
        for left, title, apart in zip(
            lefts, ("training\none pass for all scales", "sampling\none pass per scale"), (0.0, 0.025), strict=True
        ):
            write(axes, (left + side / 2, bottom + side + 0.25), title)
            for row in range(len(units)):
                low = bottom + side - edges[row + 1]
                for column in range(row + 1):
                    colour = ACCENT if column == row else ACCENT_LIGHT
                    size = (edges[column + 1] - edges[column], edges[row + 1] - edges[row] - apart)
                    block = Rectangle((left + edges[column], low), *size, facecolor=colour, edgecolor="white")
                    axes.add_patch(block)
            axes.add_patch(Rectangle((left, bottom), side, side, fill=False, edgecolor=LINE, linewidth=0.8))
        for k, size in enumerate(self.schedule.sizes):
            middle = bottom + side - (edges[k] + edges[k + 1]) / 2
            shown = f"f̂{'₀₁₂₃₄₅'[k]} at {name_of(size)}" if k else "class"
            write(axes, (lefts[0] - 0.07, middle), shown, 9, ha="right")
            write(axes, (lefts[1] + side + 0.07, middle), name_of(size), 9, ha="left")
        write(axes, (lefts[0] - 0.07, bottom + side + 0.17), "input", 9, GREY, ha="right")
        write(axes, (WIDTH - 0.24, bottom + side + 0.17), "tokens", 9, GREY)
        for x, colour, words in (
            (0.88, ACCENT, "same scale"),
            (2.1, ACCENT_LIGHT, "coarser scales (mask or cache)"),
        ):
            axes.add_patch(Rectangle((x, 0.17), 0.14, 0.14, facecolor=colour))
            write(axes, (x + 0.2, 0.235), words, 9, ha="left")
        return figure

    def draw_guidance(self) -> Figure:
        """Guidance weights over the scales, and their effect on images of the same seeds."""
        strengths = (0.0, 1.5, 4.0, 8.0)
        figure, axes = sheet(4.5)
        plot = figure.add_axes((0.15, 0.73, 0.67, 0.235))
        names = [name_of(size) for size in self.schedule.sizes]
        for cfg, colour in zip(strengths, (GREY, "#7986cb", ACCENT, "#1a237e"), strict=True):
            weights = guidance_ramp(cfg, self.schedule)
            plot.plot(names, weights, "o-", color=colour, markersize=3.5, linewidth=1.5, clip_on=False)
            plot.annotate(
                f"cfg {cfg:g}",
                (len(names) - 1, cfg),
                (8, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                size=9.5,
            )
        plot.set_ylabel("weight tₖ", size=9.5, color=INK)
        plot.set_yticks((0, 4, 8))
        plot.tick_params(labelsize=9, colors=INK, length=0)
        plot.spines[["top", "right"]].set_visible(False)
        plot.spines[["left", "bottom"]].set_color(LINE)
        labels = ["longsleeve", "outwear", "pants", "shirt", "shorts", "t-shirt"]
        side, step, left = 0.665, 0.69, 0.78
        for row, cfg in enumerate(strengths):
            y = 2.13 - row * step
            write(axes, (0.4, y + side / 2), f"cfg {cfg:g}")
            images = self.pipe(labels=labels, cfg=cfg, top_p=0.95, seed=list(range(1, 7))).images
            for column, image in enumerate(images):
                put_image(axes, image, (left + column * step, y), side, "white")
        return figure

    def draw_editing(self) -> Figure:
        """An image, its kept tokens at each scale, and three samples of the rest."""
        figure, axes = sheet(2.8)
        given = self.pipe(labels=["pants"], cfg=5.0, top_p=0.85, seed=[1]).images[0]
        result = self.pipe.edit(given, box=(0.5, 0, 1, 1), labels="pants", num_images=3, seed=[1, 3, 4], top_p=0.8)
        edit, white = result.plan.edit, to_pil(result.plan.hidden.float().expand(1, 3, -1, -1))[0]
        side, y = 0.9, 1.62
        xs = [0.05 + i * 1.0 for i in range(5)]
        for x, image in zip(xs, (given, white, *result.images), strict=True):
            put_image(axes, image, (x, y), side)
        for x, words in zip((xs[0], xs[1], xs[3]), ("given", "mask", "three samples of the white part"), strict=True):
            write(axes, (x + side / 2, y + side + 0.13), words, 9.5)
        small, step, left = 0.58, 0.685, 0.87
        write(axes, (0.42, 0.42 + small / 2), "kept\ntokens", 10)
        for k, size in enumerate(self.schedule.sizes):
            kept = edit.kept(k, self.schedule).reshape(*size, 1).numpy()
            with torch.no_grad():
                colours = self.palette(self.pyramid.codebook.codes(edit.tokens[k])[0]).reshape(*size, 3)
            colours = np.where(kept, colours, 1.0)
            put_map(axes, colours, (left + k * step, 0.42), small, line=LINE)
            write(axes, (left + k * step + small / 2, 0.42 + small + 0.13), name_of(size), 9.5)
        write(axes, (WIDTH / 2, 0.17), "the first scale is kept completely", 9.5, GREY)
        return figure


FIGURES = ("pyramid", "canvas", "walk", "training", "guidance", "editing")


def main(folder: Path) -> None:
    concepts = Concepts()
    for name in FIGURES:
        path = folder / f"concepts-{name}.svg"
        save(getattr(concepts, f"draw_{name}")(), path)
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
