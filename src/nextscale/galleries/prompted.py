"""Sample images of prompts into folders, one or more of each prompt. Existing images are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from nextscale.errors import InputError
from nextscale.evaluation.prompt_file import METADATA, PromptRow, folder_of, path_of
from nextscale.galleries.sampled import SEEDS, halve
from nextscale.imaging.images import save_image
from nextscale.io.files import atomic_file, check_begun_with, make_folder, write_json
from nextscale.io.fingerprint import content_fingerprint
from nextscale.pipeline import Pipeline
from nextscale.runtime.distributed import barrier, is_main, rank, world_size
from nextscale.runtime.out_of_memory import in_halves
from nextscale.runtime.progress import say_over
from nextscale.sampling.settings import SamplingSettings

RECORD = "prompts.json"


@dataclass(frozen=True)
class PromptedImages:
    """Images of prompts. Image t of prompt i has the seed ``seed + t N + i``, where N is the number of prompts.

    Attributes:
        name: name of the model.
        tries: number of images of each prompt.
    """

    pipeline: Pipeline
    name: str
    rows: Sequence[PromptRow]
    tries: int
    settings: SamplingSettings
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pipeline.family.takes != "prompt":
            raise InputError(f"{self.name} takes class labels: prompts are for text-to-image models")
        if not 0 <= self.seed < SEEDS - self.tries * len(self.rows):
            raise InputError(f"seed must be at least 0 and below 2^63, not {self.seed}")

    def record(self) -> dict[str, Any]:
        """Return what the images depend on, apart from their number."""
        texts = json.dumps([row.prompt for row in self.rows])
        return {
            "model": self.name,
            "weights": self.pipeline.fingerprint,
            "prompts": content_fingerprint(texts.encode())[:16],
            "seed": self.seed,
            "dtype": self.pipeline.dtype,
            **self.settings.record(),
        }

    def write(self, out: Path, batch_size: int) -> None:
        """Sample the images that are missing in a folder. Several processes divide them.

        Each prompt has a folder with ``metadata.jsonl``, the line of the file of prompts, and ``samples/00000.png`` ...

        Raises:
            InputError: the folder holds images of other prompts or another model, or cannot be written to.
        """
        if is_main():
            check_begun_with(out / RECORD, self.record(), "images of prompts")
            write_json(out / RECORD, self.record())
            for number, row in enumerate(self.rows):
                make_folder(folder_of(out, number))
                line = json.dumps(row.fields or {"prompt": row.prompt})
                with atomic_file(folder_of(out, number) / METADATA) as file:
                    file.write_text(f"{line}\n", encoding="utf-8")
        barrier()
        missing = [place for place in self._places() if not path_of(out, *place).is_file()]
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            images = [image for part in in_halves(self._sample, batch, len(batch), halve) for image in part]
            for place, image in zip(batch, images, strict=True):
                make_folder(path_of(out, *place).parent)
                save_image(image, path_of(out, *place))
            done = start + len(batch)
            say_over(f"image {done}/{len(missing)}", is_last=done == len(missing))
        barrier()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield (prompt, try) of the images of this process: first all prompts once."""
        for attempt in range(self.tries):
            for number in range(rank(), len(self.rows), world_size()):
                yield number, attempt

    def _sample(self, places: list[tuple[int, int]]) -> list[Image.Image]:
        seeds = [self.seed + attempt * len(self.rows) + number for number, attempt in places]
        prompts = [self.rows[number].prompt for number, _ in places]
        return self.pipeline(prompts, seed=seeds, settings=self.settings).images
