"""Prepare runs for comparison: select the metrics that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nextscale.curves.log import RunLog, Series
from nextscale.curves.reference import BUNDLED, nearest
from nextscale.curves.verdict import learning_curve, verdict
from nextscale.errors import InputError


def comparable(runs: Sequence[RunLog], reference: RunLog) -> tuple[list[RunLog], RunLog]:
    """Return the runs and the reference with only the metrics that all of them have.

    Transformers get metrics over all tokens and of the last scale, and, if the codebook sizes differ, losses divided
    by ln V.

    Raises:
        InputError: a run and the reference train different models, or a batch or codebook size is unknown.
    """
    for run in (*runs, reference):
        learning_curve(run)
        if run.predicts_tokens != reference.predicts_tokens:
            kinds = ["transformer" if of.predicts_tokens else "tokenizer" for of in (run, reference)]
            raise InputError(f"{run.name} trains a {kinds[0]} and {reference.name} a {kinds[1]}: expected the same")
        if run.predicts_tokens and run.codebook_size is None:
            raise InputError(f"the codebook size of {run.name} is not known: expected a checkpoint in its folder")
    shares = len({run.codebook_size for run in (*runs, reference)}) > 1 and reference.predicts_tokens
    full = [with_token_figures(run, shares) if run.predicts_tokens else run for run in (*runs, reference)]
    common = {name for run in full[:-1] for name in run.series} & full[-1].series.keys()
    kept = common | {f"val_{name}" for name in common}
    *runs, reference = (
        replace(run, series={name: series for name, series in run.series.items() if name in kept}) for run in full
    )
    return runs, reference


def with_token_figures(run: RunLog, shares: bool) -> RunLog:
    """Add ``accuracy`` over all tokens, the metrics of the last scale, and, with ``shares``, losses divided by ln V."""
    series = dict(run.series)
    tokens = np.array([h * w for h, w in run.sizes], dtype=float)
    for of in ("", "val_"):
        for figure in ("loss", "accuracy"):
            if scales := run.series.get(f"{of}scale_{figure}"):
                series[f"{of}last_scale_{figure}"] = Series(scales.steps, scales.values[:, -1])
        scales = run.series.get(f"{of}scale_accuracy")
        if scales and scales.values.shape[1] == len(tokens):
            series[f"{of}accuracy"] = Series(scales.steps, scales.values @ tokens / tokens.sum())
        for figure in (f"{of}loss", f"{of}last_scale_loss"):
            if shares and run.chance and figure in series:
                series[f"{figure}_share"] = Series(series[figure].steps, series[figure].values / run.chance)
    return replace(run, series=series)


def verdict_lines(run: RunLog, reference: RunLog, smooth: int) -> list[str]:
    """Return a comparison of the losses of a run and a reference.

    A bundled reference may have no point at the number of images that the run has seen. If another one is nearer to the
    run, a second line then compares with that one.
    """
    lines = [verdict_line(run, reference, smooth)]
    other = nearest(run)
    if reference.name in [bundled.name for bundled in BUNDLED.values()] and reference.name != other.name:
        seen, references = learning_curve(run)[0], learning_curve(reference)[0]
        if not references[0] <= seen[-1] <= references[-1]:
            name = next(name for name, bundled in BUNDLED.items() if bundled.name == other.name)
            lines.append(f"{verdict_line(run, other, smooth)}; {reason(run, other)} (plot it with --compare {name})")
    return lines


def reason(run: RunLog, reference: RunLog) -> str:
    """Return why a reference was chosen."""
    return (
        f"{reference.name} is the nearest bundled reference: {reference.tokens} tokens of {reference.codebook_size} "
        f"codes, and {run.name} has {run.tokens or 'an unknown number of'} tokens of {run.codebook_size}"
    )


def verdict_line(run: RunLog, reference: RunLog, smooth: int) -> str:
    """Return a comparison of the current losses of a run and the reference. Both are smoothed."""
    loss = run.series["loss"].smoothed(smooth)
    other = replace(reference, series={"loss": reference.series["loss"].smoothed(smooth)})
    seen, losses = learning_curve(replace(run, series={"loss": loss}))
    return f"{run.name}: {verdict(seen[-1], losses[-1], run.codebook_size, other)}"
