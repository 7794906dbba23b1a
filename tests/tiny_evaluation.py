"""Flags and reports of ``nextscale evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOOK = ("--features", "classifier")
"""Selects the tiny classifier that a fixture has put in the folder ``classifier``."""
FIGURES = ("fid", "sfid", "inception_score", "precision_recall", "agreement", "memorisation", "reconstruction")


def report(folder: str | Path = "run") -> dict[str, Any]:
    return json.loads((Path(folder) / "report.json").read_text())


def figures(folder: str | Path = "run") -> dict[str, Any]:
    return {name: report(folder)[name] for name in FIGURES}
