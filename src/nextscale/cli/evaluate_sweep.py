"""``nextscale evaluate sweep``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from nextscale.cli.evaluation import REPORT, EvaluationOptions, resumable_in
from nextscale.curves.plot import empty_figure, save
from nextscale.curves.sweep import plot, table, write_csv
from nextscale.errors import InputError
from nextscale.evaluation.report import Report
from nextscale.evaluation.target import Target
from nextscale.galleries.measure import measure
from nextscale.io.files import check_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say
from nextscale.sampling.settings import METRICS, SamplingSettings, numbers

SWEPT = ("cfg", "temperature", "top_k", "top_p")


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Evaluate a model with every combination of sampling settings. Writes OUT/sweep.csv and OUT/sweep.png.

    Each combination is evaluated in a separate folder. All combinations use the same seeds.

    Example: nextscale evaluate sweep --model runs/var --reference val.npz --features runs/classifier --cfg 0 1.5 3
    --top-p 0 0.96 --out runs/sweep
    """

    cfg: tuple[float, ...] = numbers(METRICS.cfg)
    """Values of classifier-free guidance at the last scale. 0 turns guidance off."""
    temperature: tuple[float, ...] = numbers(METRICS.temperature)
    """Values of the temperature, by which logits are divided before top-k and top-p. 1 leaves them unchanged."""
    top_k: tuple[int, ...] = (METRICS.top_k,)
    """Values of k: sample only from the k most probable tokens. 0 turns this off."""
    top_p: tuple[float, ...] = (METRICS.top_p,)
    """Values of p: sample only from the most probable tokens that together reach probability p. 0 turns this off."""


def run(options: Options) -> None:
    options.check_numbers()
    combinations = [
        SamplingSettings(**dict(zip(SWEPT, values, strict=True)))
        for values in product(*(getattr(options, name) for name in SWEPT))
    ]
    if not combinations:
        raise InputError("expected at least one cfg, temperature, top-k and top-p each")
    if len(set(combinations)) < len(combinations):
        raise InputError("expected each cfg, temperature, top-k and top-p once, got one twice")
    check_folder(options.out)
    empty_figure((1, 1))  # raises InputError now if matplotlib cannot be imported
    with processes(pick_device(options.device)) as device, resumable_in(options.out):
        session, file = options.session(options.out, device), options.reference_file()
        first = options.sampled(options.pipeline(), combinations[0])
        galleries = [first.at(settings) for settings in combinations]
        target = options.target(session, file, first.size)
        if target:
            target.check(first)
        parts = [replace(session, folder=options.out / folder_name(settings)) for settings in combinations]
        for part, gallery in zip(parts, galleries, strict=True):
            part.open_measured(gallery)  # raises InputError now if a folder does not fit
        if target:
            target.fill()
            target = Target(session, target.finish(), None, target.crop) if is_main() else None
        reports: list[Report] = []
        for i, (part, gallery) in enumerate(zip(parts, galleries, strict=True)):
            if is_main():
                say(f"{i + 1} of {len(parts)}: {part.folder.name}")
            if report := measure(part, gallery, target):
                report.write(part.folder / REPORT)
                reports.append(report)
        if is_main():
            write_csv(options.out / "sweep.csv", reports)
            save(plot(reports), options.out / "sweep.png")
            print(table(reports))
            print("* the best value of its column")
            for warning in dict.fromkeys(warning for report in reports for warning in report.warnings):
                print(f"note: {warning}")
            print(options.out / "sweep.png")


def folder_name(settings: SamplingSettings) -> str:
    """Return the folder of a combination, such as ``cfg-1.5-top-k-900-top-p-0.96``."""
    (cfg,), (heat,) = numbers(settings.cfg), numbers(settings.temperature)
    temperature = f"-temperature-{float(heat)}" if heat != 1 else ""
    return f"cfg-{float(cfg)}-top-k-{settings.top_k}-top-p-{float(settings.top_p)}{temperature}"
