"""Images at several aspect ratios: each one is cropped to its template, and batches have images of one template.

Templates are named by their ratio height / width; see `nextscale.scales.aspect`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from torch.utils.data import Dataset

from nextscale.data import dataset
from nextscale.data.captions import all_captions
from nextscale.data.dataset import Example, ImageDataset
from nextscale.data.held_out import PartOfImages
from nextscale.data.source import ImageSource
from nextscale.errors import InputError
from nextscale.scales.aspect import nearest_template

Size = tuple[int, int]


class BucketedImages(Dataset[Example]):
    """The images of a source, grouped by their nearest template. Indices count the images of one bucket after another.

    Opening reads the header of every image. An unreadable image is replaced by the next one of its bucket.

    Args:
        sizes: (H, W) in pixels of each template.
        flip: mirror images with probability 1/2.
        captions: see `ImageDataset`.
    """

    def __init__(
        self,
        source: ImageSource,
        sizes: Mapping[float, Size],
        seed: int = 0,
        augment: bool = True,
        flip: bool = False,
        captions: bool = False,
    ):
        self.source, self.seed = source, seed
        groups = group(source)
        self.templates = tuple(groups)
        memory = dataset.CACHE_BYTES // len(groups)
        self.parts: list[ImageDataset] = []
        self.buckets: list[range] = []
        """The range of indices of each template."""
        start = 0
        for template, chosen in groups.items():
            part = PartOfImages(source, tuple(chosen), tuple(source.labels[i] for i in chosen), 0)
            options = {"captions": captions, "whole": True, "memory": memory}
            self.parts.append(ImageDataset(part, sizes[template], seed, augment, flip, **options))
            self.buckets.append(range(start, start := start + len(chosen)))

    def __len__(self) -> int:
        return self.buckets[-1].stop

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return the image of (epoch, index), with its template.

        Raises:
            InputError: no image of the bucket can be read.
        """
        epoch, index = key
        bucket = bisect_right([members.start for members in self.buckets], index) - 1
        example = self.parts[bucket][epoch, index - self.buckets[bucket].start]
        return example._replace(template=self.templates[bucket])

    def captions(self) -> list[str]:
        """Return the captions of all images, with repetitions."""
        return all_captions(self.source)


def group(source: ImageSource) -> dict[float, list[int]]:
    """Return the numbers of the images of each template, by ascending ratio.

    Images whose header cannot be read join the largest group, where they are skipped and named when they come up.
    """
    groups: dict[float, list[int]] = {}
    unreadable: list[int] = []
    for i in range(len(source)):
        try:
            groups.setdefault(nearest_template(source.ratio(i)), []).append(i)
        except InputError:
            unreadable.append(i)
    largest = max(groups, key=lambda template: len(groups[template]), default=1.0)
    groups.setdefault(largest, []).extend(unreadable)
    return {template: sorted(groups[template]) for template in sorted(groups)}
