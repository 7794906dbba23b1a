"""Images at several aspect ratios: each one is cropped to its template, and batches have images of one template.

Templates are named by their ratio height / width; see `nextscale.scales.aspect`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

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

    Opening reads the header of every image, and an image of each template. An unreadable image is replaced by the next
    one of its bucket.

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

        def part(template: float, chosen: Sequence[int], memory: int = 0) -> ImageDataset:
            images = PartOfImages(source, tuple(chosen), tuple(source.labels[i] for i in chosen), 0)
            options = {"captions": captions, "whole": True, "memory": memory}
            return ImageDataset(images, sizes[template], seed, augment, flip, **options)

        def is_usable(template: float, chosen: Sequence[int]) -> bool:
            try:
                part(template, chosen)[0, 0]
            except InputError:
                return False
            return True

        groups = group(source, is_usable)
        self.templates = tuple(groups)
        self.parts = [part(template, chosen, dataset.CACHE_BYTES // len(groups)) for template, chosen in groups.items()]
        ends = list(accumulate(map(len, groups.values()), initial=0))
        self.buckets = [range(start, stop) for start, stop in pairwise(ends)]
        """The range of indices of each template."""

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


def group(source: ImageSource, is_usable: Callable[[float, Sequence[int]], bool]) -> dict[float, list[int]]:
    """Return the numbers of the images of each template, by ascending ratio.

    Images whose header cannot be read, and groups without a usable image, join the largest usable group, where they are
    skipped and named when they come up.

    Args:
        is_usable: tells of a template and the numbers of its images whether any of them can be used.
    """
    groups: dict[float, list[int]] = {}
    others: list[int] = []
    for i in range(len(source)):
        try:
            groups.setdefault(nearest_template(source.ratio(i)), []).append(i)
        except InputError:
            others.append(i)
    usable = {template: chosen for template, chosen in groups.items() if is_usable(template, chosen)} or groups
    others += [i for template, chosen in groups.items() if template not in usable for i in chosen]
    largest = max(usable, key=lambda template: len(usable[template]), default=1.0)
    usable.setdefault(largest, []).extend(others)
    return {template: sorted(usable[template]) for template in sorted(usable)}
