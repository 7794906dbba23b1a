"""Features on disk, some images to a file, so that looking at many images can stop, go on, and be shared out.

``STORE/made_from.json`` says what they depend on. ``STORE/features-00000.safetensors`` and so on hold, of
`IMAGES_IN_SHARD` images each, ``pool``, ``spatial`` and ``probabilities`` as `Features` has them, ``index`` and
``label`` (n,), and the notes of the gallery. A file is written whole, and does not depend on who makes it or when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import FeatureExtractor, Features
from nextscale.evaluation.gallery import FILES, PLACES, Gallery, ImageBatch
from nextscale.evaluation.saving import Saver
from nextscale.evaluation.statistics import check_features
from nextscale.io.files import check_begun_with, make_folder, read_json, read_tensors, write_json, write_tensors
from nextscale.runtime.distributed import barrier, is_main, rank, world_size
from nextscale.runtime.progress import Progress

IMAGES_IN_SHARD = 250
MADE_FROM = "made_from.json"
INDEX, LABEL = "index", "label"
ALL_FEATURES = Features._fields

Watch = Callable[[int], Progress]
"""How many images this process will look at -> who is told of each."""


class FeatureStore:
    """The features of a gallery in a folder.

    Args:
        kinds: which of `ALL_FEATURES` to keep.

    Raises:
        InputError: the folder was begun with another gallery or extractor, or with other files.
    """

    def __init__(
        self, folder: Path, gallery: Gallery, extractor: FeatureExtractor, kinds: Sequence[str] = ALL_FEATURES
    ):
        self.folder, self.gallery, self.extractor, self.kinds = folder, gallery, extractor, tuple(kinds)
        self.made_from: dict[str, Any] = {
            **gallery.made_from,
            "extractor": extractor.name,
            "fingerprint": extractor.fingerprint,
            "features": list(kinds),
        }
        path = folder / MADE_FROM
        check_begun_with(path, self.made_from, "features", passing=(*PLACES, FILES))
        if path.is_file() and read_json(path).get(FILES) != self.made_from.get(FILES):
            raise InputError(
                f"the files of {gallery.name} are not those that {folder} was made from, or were written since: delete "
                f"{folder} to have them looked at again, or choose another folder"
            )

    def shards(self) -> list[range]:
        """Which images each file holds."""
        count, step = len(self.gallery), IMAGES_IN_SHARD
        return [range(i, min(i + step, count)) for i in range(0, count, step)]

    def path(self, shard: int) -> Path:
        return self.folder / f"features-{shard:05d}.safetensors"

    def fill(self, batch_size: int, device: torch.device, watch: Watch, saver: Saver | None = None) -> FeatureStore:
        """Make the files that are missing, this process its share; every process has to call this.

        Args:
            batch_size: images looked at at once.
            device: of the extractor.
            saver: keeps the images, too; a file counts as missing if its images are.

        Raises:
            InputError: features that are not finite, or no image that can be read.
        """
        barrier()
        if is_main():
            write_json(make_folder(self.folder) / MADE_FROM, self.made_from)
        shards = self.shards()
        missing = [i for i in range(len(shards)) if not self._is_done(i, saver)]
        barrier()  # all have looked before the first one writes
        ours = missing[rank() :: world_size()]
        progress = watch(sum(len(shards[i]) for i in ours))
        for i in ours:
            parts, pixels = [], []
            for start in range(0, len(shards[i]), batch_size):
                indices = shards[i][start : start + batch_size]
                images = self.gallery.read(indices)
                if len(images.pixels):
                    parts.append(self._look(images, device))
                    if saver:
                        pixels.append(images.pixels.cpu())
                progress.add(len(indices))
            if saver:
                saver.save(shards[i], torch.cat(pixels))
            names = parts[0] if parts else ()
            write_tensors(self.path(i), {name: torch.cat([part[name] for part in parts]) for name in names})
        barrier()
        return self

    def _is_done(self, shard: int, saver: Saver | None) -> bool:
        return self.path(shard).is_file() and (saver is None or saver.has(self.shards()[shard]))

    def _look(self, images: ImageBatch, device: torch.device) -> dict[str, Tensor]:
        features = self.extractor(images.pixels.to(device))
        found = {name: tensor for name, tensor in features._asdict().items() if name in self.kinds}
        tensors = {name: tensor.cpu() for name, tensor in found.items() if tensor is not None}
        for name, tensor in tensors.items():
            try:
                check_features(tensor)
            except InputError as error:
                raise InputError(f"{name} features of {self.gallery.name} by {self.extractor.name}: {error}") from error
        return tensors | {INDEX: images.indices, LABEL: images.labels, **images.notes}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """What each file holds, in order; those without an image are left out."""
        for i in range(len(self.shards())):
            shard = read_tensors(self.path(i))
            if INDEX in shard:
                yield shard

    def delete(self) -> None:
        """Delete its files, and its folder and the one around it if nothing else is in them."""
        for path in (*(self.path(i) for i in range(len(self.shards()))), self.folder / MADE_FROM):
            path.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if not any(folder.iterdir()):
                folder.rmdir()

    def numbers(self) -> Tensor:
        """(N,), the number in the gallery of each image that could be read, in order."""
        paths = [self.path(i) for i in range(len(self.shards()))]
        return torch.cat([read_numbers(path) for path in paths])

    def pool(self) -> Iterator[Tensor]:
        """The pool features (n, D), file by file."""
        return (shard["pool"] for shard in self)

    def count(self) -> int:
        """How many images could be read.

        Raises:
            InputError: none.
        """
        total = len(self.numbers())
        if not total:
            raise InputError(f"none of the {len(self.gallery)} images in {self.gallery.name} can be read")
        return total


def read_numbers(path: Path) -> Tensor:
    """The numbers of the images that a file of a store holds; nothing else is read."""
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor(INDEX) if INDEX in file.keys() else torch.zeros(0, dtype=torch.long)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to have it made again") from error
