"""Run the code cells of a notebook without Jupyter, and save the images that it shows.

Usage: ``run_notebook.py NOTEBOOK FOLDER`` writes the result of cell 3 to FOLDER/03.png, its first figure to 03-1.png.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """Return the cells, each with its source as one string."""
    cells = json.loads(notebook.read_text())["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def run(notebook: Path, shown: Path) -> None:
    """Run all code cells in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for i, cell in enumerate(read_cells(notebook)):
        if cell["cell_type"] == "code":
            value = run_cell(cell["source"], f"{notebook.name}, cell {i}", names)
            show(value, shown / f"{i:02d}")


def run_cell(source: str, name: str, names: dict[str, Any]) -> object:
    """Run a cell. Return the value of its last line if that is an expression."""
    tree = ast.parse(source, name)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names)


def show(value: object, path: Path) -> None:
    """Save the result of a cell if it is an image, print it otherwise, and save all open figures."""
    if isinstance(value, Image.Image):
        value.save(path.with_name(f"{path.name}.png"))
    elif value is not None:
        print(value)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        for number in pyplot.get_fignums():
            pyplot.figure(number).savefig(path.with_name(f"{path.name}-{number}.png"))
        pyplot.close("all")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
