"""``nextscale evaluate --prompts``: sample images of prompts, and read whether they show what the prompts say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextscale.curves.plot import check_out, save
from nextscale.curves.tries import plot_tries
from nextscale.errors import InputError
from nextscale.evaluation.failures import failure_table
from nextscale.evaluation.prompt_file import PromptRow, images_of, read_rows
from nextscale.evaluation.prompt_report import expected_of, read_all, retrieve_prompts
from nextscale.evaluation.scene_reader import load_reader
from nextscale.evaluation.scene_table import read_ceiling
from nextscale.evaluation.two_towers import Retrieval, TwoTowers, load_towers
from nextscale.galleries.prompted import PromptedImages
from nextscale.imaging.images import save_image
from nextscale.io.files import check_folder, make_folder, write_json
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say_over
from nextscale.sampling.settings import METRICS

if TYPE_CHECKING:
    from nextscale.cli.evaluate import Options

REPORT, FAILURES, TRIES = "report.json", "failures.png", "tries.png"
OTHERS = (
    "reference",
    "split",
    "crop",
    "features",
    "per_class",
    "num_images",
    "save",
    "training",
    "held_out",
    "reconstruction",
    "data",
    "vgg_weights",
    "lpips_weights",
)
"""Flags of other evaluations."""


def run(options: Options, prompts: Path) -> None:
    """Sample the images that are missing, and with ``--reader`` or ``--towers`` read all and write the report."""
    check_flags(options)
    check_folder(options.out)
    rows = read_rows(prompts)
    with processes(pick_device(options.device)) as device:
        reader = load_reader(options.reader).to(device) if options.reader else None
        towers = load_towers(options.towers) if options.towers else None
        expected = expected_of(rows, reader, prompts) if reader else []  # before anything is sampled
        if not options.images:
            sample(options, rows)
        if not reader and not towers:
            print(options.out)
            return
        if is_main():
            make_folder(options.out)
            files = images_of(options.images or options.out, rows, options.tries, named=bool(options.images))
            record: dict[str, Any] = {}
            if towers:
                record["retrieval"] = retrieve(towers[0].to(device), towers[1], rows, files)
            if reader and options.reader:
                report = read_all(reader, rows, expected, files, read_ceiling(options.reader), progress)
                record |= report.record()
                print(report.table())
                if options.tries > 1:
                    fresh = next(iter(report.ceiling.values()), None)
                    save(plot_tries(report.curve, fresh and fresh.fractions["everything"]), options.out / TRIES)
                    print(options.out / TRIES)
                if table := failure_table(report):
                    save_image(table, options.out / FAILURES)
                    print(options.out / FAILURES)
            write_json(options.out / REPORT, record)
            print(options.out / REPORT)


def retrieve(
    towers: TwoTowers, real: Retrieval, rows: list[PromptRow], files: Sequence[Sequence[Path]]
) -> dict[str, Any]:
    """Print how often the first image of a prompt finds its prompt, and how often real images do."""
    found = retrieve_prompts(towers, [row.prompt for row in rows], [tries[0] for tries in files])
    print(f"retrieval: {found}")
    print(f"real validation images: {real}")
    return {"images": asdict(found), "real": asdict(real)}


def check_flags(options: Options) -> None:
    """Raise InputError for flags that contradict each other, before anything is loaded."""
    if options.tries < 1:
        raise InputError(f"tries must be at least 1, not {options.tries}")
    if options.images and not options.reader and not options.towers:
        raise InputError("--images with --prompts need --reader or --towers, which compare them")
    if options.reader and options.tries > 1:
        check_out(options.out / TRIES)
    for name in OTHERS:
        if getattr(options, name) != getattr(type(options), name):
            raise InputError(f"expected --prompts or --{name.replace('_', '-')}, got both: it has no effect on prompts")


def sample(options: Options, rows: list[PromptRow]) -> None:
    """Sample the images of the prompts that are missing in ``--out``."""
    pipeline = options.pipeline()
    options.text.use(pipeline, options.model)
    given = {name: value for name, value in vars(options.sampling).items() if value != getattr(METRICS, name)}
    settings = pipeline.settings.changed(**given)
    name = str(Path(options.model).resolve()) if Path(options.model).exists() else options.model
    PromptedImages(pipeline, name, rows, options.tries, settings, options.seed).write(options.out, options.batch_size)


def progress(done: int, count: int) -> None:
    say_over(f"read {done}/{count}", is_last=done == count)
