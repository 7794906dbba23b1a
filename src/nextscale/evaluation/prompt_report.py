"""The report on images of prompts: scores beside the ceiling of the reader, and all that was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.prompt_file import PromptRow
from nextscale.evaluation.scene_agreement import Expected, Scores, Verdict, best_of, judge, total
from nextscale.evaluation.scene_reader import Reading, SceneReader
from nextscale.evaluation.scene_table import score_table
from nextscale.evaluation.two_towers import Retrieval, TwoTowers, retrieval
from nextscale.imaging.images import read_image, to_tensor

MODEL = "images"
AT_ONCE = 64


@dataclass(frozen=True)
class PromptReport:
    """What a reader says about the images of prompts.

    Attributes:
        rows: the prompts.
        files: the images of each prompt.
        readings, verdicts: what was read in each image, and whether it is right.
        ceiling: scores of the reader on real renders.
    """

    rows: Sequence[PromptRow]
    files: Sequence[Sequence[Path]]
    readings: Sequence[Sequence[Reading]]
    verdicts: Sequence[Sequence[Verdict]]
    ceiling: Mapping[str, Scores]

    @property
    def scores(self) -> Scores:
        """The scores of the first image of each prompt."""
        return total([tries[0] for tries in self.verdicts])

    @property
    def curve(self) -> list[float]:
        """Fraction of prompts with everything right in the best of 1, 2, ... images, chosen by the reader."""
        return best_of(self.verdicts)

    @property
    def failures(self) -> list[int]:
        """Return the numbers of the prompts whose first image is not right."""
        return [i for i, tries in enumerate(self.verdicts) if not tries[0].everything]

    def record(self) -> dict[str, Any]:
        """Return the report as JSON."""
        results = [
            {
                **(row.fields or {"prompt": row.prompt}),
                "images": [
                    {"file": str(path), "read": asdict(reading), "right": asdict(verdict)}
                    for path, reading, verdict in zip(*tries, strict=True)
                ],
            }
            for row, *tries in zip(self.rows, self.files, self.readings, self.verdicts, strict=True)
        ]
        return {
            "scores": asdict(self.scores),
            "ceiling": {kind: asdict(scores) for kind, scores in self.ceiling.items()},
            "best_of": self.curve,
            "results": results,
        }

    def table(self) -> str:
        """Return the scores beside the ceiling, and the curve of tries if there are several."""
        text = score_table({MODEL: self.scores, **{f"ceiling: {kind}": s for kind, s in self.ceiling.items()}})
        if len(self.curve) > 1:
            tries = "  ".join(f"{n}: {share:.1%}" for n, share in enumerate(self.curve, 1))
            text += f"\neverything right in the best of n images  {tries}"
        return text


def expected_of(rows: Sequence[PromptRow], reader: SceneReader, source: Path) -> list[Expected]:
    """Return what the image of each prompt should show.

    Raises:
        InputError: a line lacks what a reader needs, or names something that this reader does not know.
    """
    known = reader.config
    result = []
    for number, row in enumerate(rows, 1):
        where = f"line {number} of {source}"
        expected = Expected.of(row.fields, where)
        for value in expected.objects:
            check_known(value, known.objects, "object", where)
        check_known(expected.style, known.styles, "style", where)
        check_known(expected.background, known.backgrounds, "background", where)
        result.append(expected)
    return result


def check_known(value: str, names: Sequence[str], what: str, where: str) -> None:
    """Raise InputError if a reader does not know a name."""
    if value not in names:
        raise InputError(f"{where} names the {what} {value!r}, which is none of the {len(names)} that the reader knows")


def read_all(
    reader: SceneReader,
    rows: Sequence[PromptRow],
    expected: Sequence[Expected],
    files: Sequence[Sequence[Path]],
    ceiling: Mapping[str, Scores],
    report: Callable[[int, int], None] = lambda done, count: None,
) -> PromptReport:
    """Read all images and compare them with their prompts.

    Args:
        report: called with the number of images that are read, and of all images.
    """
    paths = [path for tries in files for path in tries]
    readings: list[Reading] = []
    for images in in_batches(paths, next(reader.parameters()).device):
        readings += reader.read(images)
        report(len(readings), len(paths))
    read = iter(readings)
    per_prompt = [[next(read) for _ in tries] for tries in files]
    verdicts = [[judge(one, reading) for reading in tries] for one, tries in zip(expected, per_prompt, strict=True)]
    return PromptReport(rows, files, per_prompt, verdicts, ceiling)


@torch.no_grad()
def retrieve_prompts(towers: TwoTowers, prompts: Sequence[str], paths: Sequence[Path]) -> Retrieval:
    """Return how often an image finds its prompt among others."""
    device = next(towers.parameters()).device
    images = torch.cat([towers.images(batch) for batch in in_batches(paths, device)])
    return retrieval(images, towers.texts(towers.words.ids(list(prompts)).to(device)), prompts)


def in_batches(paths: Sequence[Path], device: torch.device) -> Iterator[Tensor]:
    """Yield images (B, 3, H, W) in [-1, 1], at most `AT_ONCE` of one size at a time."""
    batch: list[Tensor] = []
    for path in paths:
        image = to_tensor(read_image(path)).to(device)
        if batch and (len(batch) == AT_ONCE or image.shape != batch[0].shape):
            yield torch.stack(batch)
            batch = []
        batch.append(image)
    if batch:
        yield torch.stack(batch)
