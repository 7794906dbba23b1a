"""Features on disk, in shards, so that their computation can be interrupted, resumed, and divided among processes.

``STORE/made_from.json`` records all inputs of the features. Each file ``STORE/features-00000.safetensors`` contains
`IMAGES_IN_SHARD` images: ``pool``, ``spatial`` and ``probabilities`` as in `Features`, ``index`` and ``label`` (n,),
and the notes of the gallery. Its content does not depend on the process that writes it.
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
from nextscale.imaging.image_files import check_readable
from nextscale.io.files import check_begun_with, read_json, write_json
from nextscale.io.lock import locked_by_main
from nextscale.io.tensor_files import read_tensors, write_tensors
from nextscale.runtime.distributed import barrier, is_main, rank, world_size
from nextscale.runtime.progress import Progress

IMAGES_IN_SHARD = 250
MADE_FROM = "made_from.json"
INDEX, LABEL = "index", "label"
ALL_FEATURES = Features._fields

Watch = Callable[[int], Progress]
"""Function that creates the progress display from the number of images of this process."""


class FeatureStore:
    """The features of a gallery, stored in a folder.

    Args:
        kinds: features to store, a subset of `ALL_FEATURES`.

    Raises:
        InputError: the folder contains features of another gallery, of another extractor, or of other files.
    """

    def __init__(
        self, folder: Path, gallery: Gallery, extractor: FeatureExtractor, kinds: Sequence[str] = ALL_FEATURES
    ):
        check_readable(folder)
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
                f"the files of {gallery.name} have changed since the features in {folder} were computed: delete "
                f"{folder} to compute them again, or choose another folder"
            )

    def shards(self) -> list[range]:
        """Return the numbers of the images in each shard."""
        count, step = len(self.gallery), IMAGES_IN_SHARD
        return [range(i, min(i + step, count)) for i in range(0, count, step)]

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"features-{shard:05d}.safetensors"

    def fill(self, batch_size: int, device: torch.device, watch: Watch, saver: Saver | None = None) -> FeatureStore:
        """Compute the missing shards, divided among the processes. All processes must call this.

        Args:
            batch_size: images per call of the extractor.
            device: device of the extractor.
            saver: also saves the images. A shard whose images are not saved counts as missing.

        Raises:
            InputError: the features are not finite, or another command is writing to the folder.
        """
        barrier()
        with locked_by_main(self.folder):
            self._fill(batch_size, device, watch, saver)
        return self

    def _fill(self, batch_size: int, device: torch.device, watch: Watch, saver: Saver | None) -> None:
        if is_main():
            write_json(self.folder / MADE_FROM, self.made_from)
        shards = self.shards()
        missing = [i for i in range(len(shards)) if not self._is_done(i, saver)]
        barrier()  # all processes must list the missing shards before the first one writes
        ours = missing[rank() :: world_size()]
        progress = watch(sum(len(shards[i]) for i in ours))
        for i in ours:
            parts, pixels = [], []
            for start in range(0, len(shards[i]), batch_size):
                indices = shards[i][start : start + batch_size]
                images = self.gallery.read(indices)
                if len(images.pixels):
                    parts.append(self._extract(images, device))
                    if saver:
                        pixels.append(images.pixels.cpu())
                progress.add(len(indices))
            if saver:
                saver.save(shards[i], torch.cat(pixels))
            names = parts[0] if parts else ()
            write_tensors(self.path(i), {name: torch.cat([part[name] for part in parts]) for name in names})
        barrier()

    def _is_done(self, shard: int, saver: Saver | None) -> bool:
        return self.path(shard).is_file() and (saver is None or saver.has(self.shards()[shard]))

    def _extract(self, images: ImageBatch, device: torch.device) -> dict[str, Tensor]:
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
        """Yield the tensors of each shard in order. Shards in which no image could be read are skipped."""
        for i in range(len(self.shards())):
            shard = read_tensors(self.path(i))
            if INDEX in shard:
                yield shard

    def delete(self) -> None:
        """Delete the files of the store, then its folder and the parent folder if they are empty."""
        for path in (*(self.path(i) for i in range(len(self.shards()))), self.folder / MADE_FROM):
            path.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if not any(folder.iterdir()):
                folder.rmdir()

    def numbers(self) -> Tensor:
        """Return the numbers (N,) in the gallery of all readable images, in order."""
        paths = [self.path(i) for i in range(len(self.shards()))]
        return torch.cat([read_numbers(path) for path in paths])

    def pool(self) -> Iterator[Tensor]:
        """Yield the pool features (n, D) of each shard."""
        return (shard["pool"] for shard in self)

    def count(self) -> int:
        """Return the number of readable images.

        Raises:
            InputError: no image could be read.
        """
        total = len(self.numbers())
        if not total:
            raise InputError(f"none of the {len(self.gallery)} images in {self.gallery.name} can be read")
        return total


def read_numbers(path: Path) -> Tensor:
    """Return the numbers of the images in a shard, without reading the features."""
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor(INDEX) if INDEX in file.keys() else torch.zeros(0, dtype=torch.long)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it to compute it again") from error
