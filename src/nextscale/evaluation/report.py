"""What was measured, with all that a figure depends on, and how it stands beside a published one."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nextscale.errors import InputError
from nextscale.evaluation.agreement import Agreement
from nextscale.evaluation.features import INCEPTION
from nextscale.evaluation.inception_score import SPLIT_SIZE, Scores
from nextscale.evaluation.memorisation import Memorisation
from nextscale.evaluation.precision_recall import PrecisionRecall
from nextscale.evaluation.reconstruction import Reconstruction
from nextscale.io.files import write_json

PACKAGES = ("nextscale", "torch", "numpy", "Pillow")
"""Whose versions move pixels or figures."""
SHOWN = 3
"""Classes in the table; the report has all."""
LABELS = {
    "fid": ("FID", "lower is better"),
    "sfid": ("sFID", "lower is better"),
    "inception_score": ("Inception Score", "higher is better"),
    "precision": ("precision", "higher is better"),
    "recall": ("recall", "higher is better"),
    "density": ("density", "higher is better"),
    "coverage": ("coverage", "higher is better"),
    "agreement": ("label agreement", "higher is better"),
    "psnr": ("PSNR in dB", "higher is better"),
    "ssim": ("SSIM", "higher is better"),
    "lpips": ("LPIPS", "lower is better"),
}
"""What measures are called, and which way is good."""


@dataclass(frozen=True)
class Published:
    """A figure from a paper.

    Attributes:
        name: of the model.
        metric: one of `LABELS`.
        images: how many were drawn for it.
        settings: how they were drawn.
    """

    name: str
    metric: str
    value: float
    images: int = 50_000
    settings: Mapping[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Of Python and of the installed packages that move pixels or figures."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Report:
    """
    Attributes:
        images: how many drawn images were measured.
        size: their (H, W).
        extractor: name of the network that looked at them.
        fingerprint: of its weights.
        reference: what they were measured against.
        reference_images: how many that was made from; None if its file does not say.
        reference_crop: how they were cut out of their files; likewise.
        seed: of drawing, and of shuffling for the Inception Score.
        settings: how they were drawn, such as cfg and top_k: values that JSON has.
        seconds_of_last_call: how long the command took that finished it, not counting earlier ones that were stopped.
        agreement: of a classifier with the classes that images were drawn as.
        reconstruction: of a tokenizer; the other figures are then those of its reconstructions.
        verdict_line: how a figure stands beside the published one.
        warnings: sentences to be read with the figures.
    """

    images: int
    size: tuple[int, int]
    extractor: str
    fingerprint: str
    reference: str | None
    reference_images: int | None
    reference_crop: str | None
    seed: int
    settings: Mapping[str, Any]
    seconds_of_last_call: float
    fid: float | None = None
    sfid: float | None = None
    inception_score: Scores | None = None
    precision_recall: PrecisionRecall | None = None
    memorisation: Memorisation | None = None
    agreement: Agreement | None = None
    reconstruction: Reconstruction | None = None
    verdict_line: str | None = None
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    finished: str = field(default_factory=now)

    def __post_init__(self) -> None:
        for name, value in self.figures().items():
            if not math.isfinite(value):
                raise InputError(f"{LABELS[name][0]} is {value}: expected a finite number")

    def figures(self) -> dict[str, float]:
        """What was measured of `LABELS`, one number each; of the Inception Score the shuffled one."""
        figures: dict[str, float | None] = {"fid": self.fid, "sfid": self.sfid}
        if self.inception_score is not None:
            figures["inception_score"] = self.inception_score.shuffled
        if self.precision_recall is not None:
            shares = dataclasses.asdict(self.precision_recall)
            figures |= {name: shares[name] for name in ("precision", "recall", "density", "coverage")}
        if self.agreement is not None:
            figures["agreement"] = self.agreement.overall
        if self.reconstruction is not None:
            figures |= {name: getattr(self.reconstruction, name) for name in ("psnr", "ssim", "lpips")}
        return {name: value for name, value in figures.items() if value is not None}

    def verdict(self, published: Published) -> str:
        """One line: the figure beside the published one, or why the two cannot be compared.

        Raises:
            InputError: a measure that is none of `LABELS`, or was not taken.
        """
        figures = self.figures()
        if published.metric not in figures:
            raise InputError(f"{published.metric!r} was not measured: expected one of {', '.join(figures) or 'none'}")
        value = figures[published.metric]
        label, good = LABELS[published.metric]
        start = f"{label} {said(value)} of {self.images:,} images"
        theirs = f"{said(published.value)} published for {published.name}"
        if self.extractor != INCEPTION:
            return f"{start}, by {self.extractor}: not comparable with {theirs}, which is by Inception"
        if other := {
            name: ours for name in published.settings if (ours := self.settings.get(name)) != published.settings[name]
        }:
            drawn, theirs_drawn = (
                ", ".join(f"{name} {settings[name]}" for name in other) for settings in (other, published.settings)
            )
            return f"{start}, drawn with {drawn}: not comparable with {theirs}, drawn with {theirs_drawn}"
        if self.images != published.images:
            return f"{start}: not comparable with {theirs}, which is of {published.images:,}"
        return f"{start}, {difference(value, published.value)} {theirs} ({good})"

    def table(self) -> str:
        """The figures in lines, and what has to be read with them."""
        against = f"against {self.reference}" if self.reference else "without a reference"
        known = f", {self.reference_images:,} images" if self.reference_images else ""
        known += f", {self.reference_crop} crop" if self.reference_crop else ""
        lines = [f"{self.images:,} images, by {self.extractor}, {against}{known}"]
        for name, value in self.figures().items():
            r = "r" if self.reconstruction and name in ("fid", "sfid") else ""
            lines.append(f"  {r + LABELS[name][0]:<16} {said(value)}{self._remark(name)}")
        lines += self.reconstruction.lines() if self.reconstruction else []
        lines += self.memorisation.sentences() if self.memorisation else []
        lines += [self.verdict_line] if self.verdict_line else []
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])

    def _remark(self, name: str) -> str:
        """What stands behind a figure in the table."""
        if name == "inception_score" and (scores := self.inception_score):
            if scores.splits == 1:
                return f" of one part: {SPLIT_SIZE:,} images or fewer, so their order has no effect"
            return (
                f" +- {said(scores.shuffled_std)} shuffled, {said(scores.ordered)} in the order they came, "
                f"{said(scores.whole)} all at once"
            )
        if name == "agreement" and (agreement := self.agreement):
            least = sorted(agreement.per_class.items(), key=lambda item: item[1])[:SHOWN]
            real = f", {said(agreement.real)} of {agreement.real_images}" if agreement.real is not None else ""
            return f"{real}; least: {', '.join(f'{name} {said(share)}' for name, share in least)}"
        return ""

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InputError: the folder is not writable, or a setting is nothing that JSON has.
        """
        try:
            write_json(path, dataclasses.asdict(self))
        except TypeError as error:
            raise InputError(
                f"cannot write {path}: a setting is no number, text, list or the like ({error})"
            ) from error


def said(value: float) -> str:
    """Three significant digits at least, two decimals at least: ``3.55``, ``274.40``, ``0.842``."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def difference(value: float, other: float) -> str:
    """``1.7 % above``, to be followed by the other number."""
    percent = round(100 * (value / other - 1), 1) if other else math.inf
    return f"{abs(percent)} % {'above' if percent > 0 else 'below'}" if percent else "the same as"
