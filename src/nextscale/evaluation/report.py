"""The report of an evaluation: all metrics, their settings, and a comparison with a published metric."""

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
"""Packages whose versions affect pixels or metrics."""
SHOWN = 3
"""Number of classes in the table; report.json has all of them."""
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
"""The name of each metric, and whether lower or higher is better."""


@dataclass(frozen=True)
class Published:
    """A metric from a paper.

    Attributes:
        name: name of the model.
        metric: a key of `LABELS`.
        value: value of the metric.
        images: number of sampled images.
        settings: sampling settings.
    """

    name: str
    metric: str
    value: float
    images: int = 50_000
    settings: Mapping[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that affect pixels or metrics."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Report:
    """All metrics of an evaluation. A metric that was not computed is None.

    Attributes:
        images: number of measured images.
        size: their (H, W).
        extractor: name of the network that computed the features.
        fingerprint: fingerprint of the weights.
        reference: name of the reference.
        reference_images: number of its images; None if its file does not record it.
        reference_crop: crop of its images; None if its file does not record it.
        seed: seed of sampling, and of the shuffling for the Inception Score.
        settings: sampling settings, such as cfg and top_k, and all other inputs of the images, as JSON values.
        seconds_of_last_call: duration of the command that finished the evaluation, without earlier, interrupted ones.
        agreement: label agreement of a classifier.
        reconstruction: metrics of a tokenizer. The other metrics are then those of its reconstructions.
        verdict_line: comparison with a published metric.
        warnings: warnings about the metrics, and the metrics that were skipped.
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
        """Return the computed metrics, one number for each key of `LABELS`; the Inception Score is the shuffled one."""
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
        """Return one line that compares a metric with a published one, or explains why they are not comparable.

        Raises:
            InputError: the metric was not computed, or is not a key of `LABELS`.
        """
        figures = self.figures()
        if published.metric not in figures:
            raise InputError(f"{published.metric!r} was not measured: expected one of {', '.join(figures) or 'none'}")
        value = figures[published.metric]
        label, good = LABELS[published.metric]
        start = f"{label} {formatted(value)} of {self.images:,} images"
        theirs = f"{formatted(published.value)} published for {published.name}"
        if self.extractor != INCEPTION:
            return f"{start}, by {self.extractor}: not comparable with {theirs}, which is by Inception"
        if other := {
            name: ours for name in published.settings if (ours := self.settings.get(name)) != published.settings[name]
        }:
            sampled, theirs_sampled = (
                ", ".join(f"{name} {settings[name]}" for name in other) for settings in (other, published.settings)
            )
            return f"{start}, sampled with {sampled}: not comparable with {theirs}, sampled with {theirs_sampled}"
        if self.images != published.images:
            return f"{start}: not comparable with {theirs}, which is of {published.images:,}"
        return f"{start}, {difference(value, published.value)} {theirs} ({good})"

    def table(self) -> str:
        """Return the metrics as a table, with warnings and explanations below it."""
        against = f"against {self.reference}" if self.reference else "without a reference"
        known = f", {self.reference_images:,} images" if self.reference_images else ""
        known += f", {self.reference_crop} crop" if self.reference_crop else ""
        lines = [f"{self.images:,} images, by {self.extractor}, {against}{known}"]
        for name, value in self.figures().items():
            r = "r" if self.reconstruction and name in ("fid", "sfid") else ""
            lines.append(f"  {r + LABELS[name][0]:<16} {formatted(value)}{self._remark(name)}")
        lines += self.reconstruction.lines() if self.reconstruction else []
        lines += self.memorisation.sentences() if self.memorisation else []
        lines += [self.verdict_line] if self.verdict_line else []
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])

    def _remark(self, name: str) -> str:
        """Return the remark after a metric in the table."""
        if name == "inception_score" and (scores := self.inception_score):
            if scores.splits == 1:
                return f" (all images as one part, because there are at most {SPLIT_SIZE:,})"
            return (
                f" +- {formatted(scores.shuffled_std)} shuffled, {formatted(scores.ordered)} in the order they came, "
                f"{formatted(scores.whole)} all at once"
            )
        if name == "agreement" and (agreement := self.agreement):
            least = sorted(agreement.per_class.items(), key=lambda item: item[1])[:SHOWN]
            real = f" ({agreement.real_images}: {formatted(agreement.real)})" if agreement.real is not None else ""
            return f"{real}; lowest: {', '.join(f'{name} {formatted(share)}' for name, share in least)}"
        return ""

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Raises:
            InputError: the folder is not writable, or a setting is not a JSON value.
        """
        try:
            write_json(path, dataclasses.asdict(self))
        except TypeError as error:
            raise InputError(
                f"cannot write {path}: a setting is not a number, text, list or the like ({error})"
            ) from error


def formatted(value: float) -> str:
    """Return a number with at least two decimals and three significant digits: ``3.55``, ``274.40``, ``0.842``."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def difference(value: float, other: float) -> str:
    """Return the relative difference as text, such as ``1.7 % above``, to be followed by the other number."""
    percent = round(100 * (value / other - 1), 1) if other else math.inf
    return f"{abs(percent)} % {'above' if percent > 0 else 'below'}" if percent else "the same as"
