"""``nextscale evaluate sweep``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import product

from nextscale.cli.evaluation import REPORT, EvaluationOptions, make_report
from nextscale.curves.plot import empty_figure, save
from nextscale.errors import InputError
from nextscale.evaluation.report import Report
from nextscale.evaluation.sweep import draw, table, write_csv
from nextscale.io.files import check_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say
from nextscale.sampling.settings import SamplingSettings


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Measure a model at every combination of settings of sampling: a table, OUT/sweep.csv and OUT/sweep.png.

    Each combination is an evaluation in a folder of its own. All draw with the same seeds.

    Example: nextscale evaluate sweep --model runs/var --reference val.npz --features runs/classifier --cfg 0 1.5 3
    --top-p 0 0.96 --out runs/sweep
    """

    cfg: tuple[float, ...] = (1.5,)
    """Guidance: 0 is none."""
    top_k: tuple[int, ...] = (900,)
    """Draw among the k most probable tokens; 0 is all."""
    top_p: tuple[float, ...] = (0.96,)
    """Draw among the most probable tokens that together reach p; 0 is all."""


def run(options: Options) -> None:
    options.check_numbers()
    combinations = [
        SamplingSettings(cfg=cfg, top_k=top_k, top_p=top_p)
        for cfg, top_k, top_p in product(options.cfg, options.top_k, options.top_p)
    ]
    if not combinations:
        raise InputError("expected at least one cfg, top-k and top-p each")
    if len(set(combinations)) < len(combinations):
        raise InputError("expected each cfg, top-k and top-p once, got one twice")
    check_folder(options.out)
    empty_figure((1, 1))  # says at once if it cannot be drawn
    with processes(pick_device(options.device)) as device:
        session, file = options.session(options.out, device), options.reference_file()
        first = options.drawn(options.pipeline(), combinations[0])
        galleries = [first.at(settings) for settings in combinations]
        target = options.target(session, file, first.size)
        if target:
            target.check(first)
        parts = [replace(session, folder=options.out / folder_name(settings)) for settings in combinations]
        stores = [part.open("drawn", gallery) for part, gallery in zip(parts, galleries, strict=True)]
        if target:
            target.fill()
        reference = target.finish() if target and is_main() else None
        reports: list[Report] = []
        for i, (part, gallery, store) in enumerate(zip(parts, galleries, stores, strict=True)):
            if is_main():
                say(f"{i + 1} of {len(parts)}: {part.folder.name}")
            start = time.monotonic()
            part.fill(store, "drawn")
            if is_main():
                settings = {"batch_size": options.batch_size, "device": str(device)}
                summary, seconds = part.summarise(store), time.monotonic() - start
                report = make_report(part, gallery, summary, reference, seconds, options.model, settings)
                report.write(part.folder / REPORT)
                reports.append(report)
        if is_main():
            write_csv(options.out / "sweep.csv", reports)
            save(draw(reports), options.out / "sweep.png")
            print(table(reports))
            for warning in dict.fromkeys(warning for report in reports for warning in report.warnings):
                print(f"note: {warning}")
            print(options.out / "sweep.png")


def folder_name(settings: SamplingSettings) -> str:
    """``cfg-1.5-top-k-900-top-p-0.96``."""
    return f"cfg-{float(settings.cfg)}-top-k-{settings.top_k}-top-p-{float(settings.top_p)}"
