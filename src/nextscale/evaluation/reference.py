"""Reference files: statistics of the features of real images.

Files have the .npz format of the ADM evaluator: ``mu`` and ``sigma`` of the pool features, ``mu_s`` and ``sigma_s`` of
the spatial features, and the images in ``arr_0``. nextscale adds ``pool``, the features of some images for precision
and recall, and ``meta``, a JSON text with the origin of the file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.evaluation.features import INCEPTION, FeatureExtractor, Features, sides
from nextscale.evaluation.npz import IMAGES, Header, check_images_array, read_array, read_headers
from nextscale.evaluation.statistics import Gaussian, check_features, check_shapes
from nextscale.io.config import as_config
from nextscale.io.files import atomic_file
from nextscale.io.json_text import parse_json

KEPT = 10_000
"""Number of images whose features a reference file stores, for precision and recall."""
ROUNDING = 1e-4
"""Negative variances up to this fraction of the largest one are accepted, because float32 rounding can cause them."""
UNKNOWN = "unknown"
"""The crop of images in files that do not record it."""
POOL, META = "pool", "meta"
STATISTICS = {"gaussian": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


@dataclass(frozen=True)
class Origin:
    """The origin of a reference.

    Attributes:
        extractor: name of the network.
        fingerprint: fingerprint of the weights.
        size: (H, W) of the images.
        crop: crop of the images, such as "centre".
        images: number of images.
        agreement: fraction of the images that the network assigns to their class; None if it does not know the
            classes.
    """

    extractor: str
    fingerprint: str
    size: tuple[int, int]
    crop: str
    images: int
    agreement: float | None = None

    def __post_init__(self) -> None:
        fine = isinstance(self.size, list | tuple) and len(self.size) == 2
        if not fine or not all(isinstance(n, int) and n > 0 for n in (*self.size, self.images)):
            raise InputError(
                f"size must be two integers of at least 1 and images one, not {self.size!r} and {self.images!r}"
            )
        for name in ("extractor", "fingerprint", "crop"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be a text, not {getattr(self, name)!r}")
        if self.agreement is not None and not isinstance(self.agreement, int | float):
            raise InputError(f"agreement must be a number or null, not {self.agreement!r}")
        object.__setattr__(self, "size", tuple(self.size))


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images, which other images are compared with.

    Attributes:
        name: name in messages.
        gaussian: Gaussian of the pool features; None in a file with images only.
        spatial: Gaussian of the spatial features, for sFID.
        features: (N, D) pool features of some of the images, for precision and recall.
        origin: origin of the file; None in a file of the ADM evaluator.
        stored: shape (N, H, W) of the images in the file, for `ImageArray`.
    """

    name: str
    gaussian: Gaussian | None = None
    spatial: Gaussian | None = None
    features: Tensor | None = None
    origin: Origin | None = None
    stored: tuple[int, int, int] | None = None

    def check(self, extractor: FeatureExtractor, size: tuple[int, int], crop: str | None = None) -> None:
        """Raise InputError if images of this size cannot be compared with the reference by this extractor.

        A file without ``meta`` is assumed to be made with Inception. Its crop is unknown, and so is its size unless it
        has images. If ``crop`` is given, the reference must have the same crop, as rFID requires.
        """
        origin = self.origin
        if origin is None:
            if self.gaussian is not None and extractor.name != INCEPTION:
                raise InputError(
                    f"{self.name} records no extractor, so it counts as made with {INCEPTION}, not {extractor.name}"
                )
            ours = self.stored and self.stored[1:]
        else:
            ours = origin.size
            if origin.extractor != extractor.name:
                raise InputError(f"{self.name} was made with {origin.extractor}, not with {extractor.name}")
            if origin.fingerprint != extractor.fingerprint:
                raise InputError(
                    f"{self.name} was made with other weights of {extractor.name}: their fingerprint was "
                    f"{origin.fingerprint} and is now {extractor.fingerprint}"
                )
        self.check_crop(crop)
        if ours not in (None, tuple(size)):
            raise InputError(f"{self.name} was made from images of {sides(ours)}, not {sides(size)}")

    def check_crop(self, crop: str | None) -> None:
        """Raise InputError if the images of the reference have a different crop. An unknown crop is accepted."""
        if self.origin and crop not in (None, self.origin.crop):
            raise InputError(f"{self.name} was made from images cropped {self.origin.crop!r}, not {crop!r}")

    def warning(self) -> str | None:
        """Return a warning if the reference has too few images for a covariance of full rank, else None."""
        if self.origin is None or self.gaussian is None or self.origin.images > self.gaussian.dimensions:
            return None
        return (
            f"{self.name} has {self.origin.images} images, too few for features of {self.gaussian.dimensions} "
            "dimensions: compare a Frechet distance only with others to the same reference"
        )

    def check_features(self, features: Features) -> None:
        """Raise InputError if features have other dimensions than the reference."""
        for theirs, ours, name in (
            (features.pool, self.gaussian, "pool"),
            (features.spatial, self.spatial, "spatial"),
        ):
            if ours is not None and theirs is not None and ours.dimensions != theirs.shape[1]:
                raise InputError(
                    f"{self.name} has {name} features of {ours.dimensions} dimensions, not {theirs.shape[1]}"
                )


def kept_images(images: int, seed: int = 0, most: int = KEPT) -> Tensor:
    """Return the numbers of at most ``most`` images, chosen at random because the first images may have few classes."""
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return order[:most].sort().values


def read_reference(path: Path) -> Reference:
    """Read the statistics and stored features of a reference file. `ImageArray` reads its images.

    Raises:
        InputError: the file is missing or damaged, has neither statistics nor images, or has arrays of wrong shapes.
    """
    headers = read_headers(path)
    statistics = {field: read_gaussian(path, headers, *names) for field, names in STATISTICS.items()}
    if statistics["gaussian"] is None and IMAGES not in headers:
        raise InputError(
            f"{path} holds {', '.join(headers) or 'no arrays'}: expected mu and sigma of a reference, or images in "
            f"{IMAGES}"
        )
    features = read_numbers(path, headers, POOL) if POOL in headers else None
    if features is not None:
        check_features(features, statistics["gaussian"].dimensions if statistics["gaussian"] else None)
    stored = check_images_array(headers[IMAGES], path).shape[:3] if IMAGES in headers else None
    origin = read_origin(path) if META in headers else None
    return Reference(str(path), **statistics, features=features, origin=origin, stored=stored)  # type: ignore[arg-type]


def read_gaussian(path: Path, headers: Mapping[str, Header], mean: str, covariance: str) -> Gaussian | None:
    """Read a mean and a covariance by their names; None if the file has neither."""
    if mean not in headers and covariance not in headers:
        return None
    try:
        if mean in headers and covariance in headers:  # before an array of any size is read
            check_shapes(headers[mean].shape, headers[covariance].shape)
    except InputError as error:
        raise InputError(f"{path}: {mean} and {covariance} do not fit ({error})") from error
    mu, sigma = (read_numbers(path, headers, name).double() for name in (mean, covariance))
    try:
        gaussian = Gaussian(mu, sigma)
    except InputError as error:
        raise InputError(f"{path}: {mean} and {covariance} do not fit ({error})") from error
    if not torch.allclose(gaussian.covariance, gaussian.covariance.T, rtol=1e-4, atol=1e-6):
        raise InputError(f"{path}: {covariance} is not symmetric, so it is not a covariance")
    variances = torch.linalg.eigvalsh(gaussian.covariance)
    if variances[0] < -ROUNDING * variances.abs().max():
        raise InputError(f"{path}: {covariance} has a negative variance, {variances[0]:.3g}, so it is not a covariance")
    return gaussian


def read_numbers(path: Path, headers: Mapping[str, Header], name: str) -> Tensor:
    """Read an array of floating-point numbers."""
    if name in headers and headers[name].dtype.kind != "f":
        raise InputError(f"{name} in {path} is {headers[name].dtype}: expected floating-point numbers")
    array = read_array(path, name)
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def read_origin(path: Path) -> Origin:
    """Read the origin of a file."""
    text = read_array(path, META)
    try:
        return as_config(Origin, parse_json(str(text)))
    except ValueError as error:
        raise InputError(f"{META} in {path} is not the origin of a reference file ({error})") from error


def write_reference(path: Path, reference: Reference) -> None:
    """Write a reference file. Features in float16 stay in float16; others become float32.

    Raises:
        InputError: there are no statistics, there are more than `KEPT` features, or the folder is not writable.
    """
    if reference.gaussian is None:
        raise InputError(f"there are no statistics to write to {path}: expected those of real images")
    arrays: dict[str, np.ndarray] = {}
    for field, names in STATISTICS.items():
        gaussian: Gaussian | None = getattr(reference, field)
        if gaussian is not None:
            arrays |= zip(names, (t.double().cpu().numpy() for t in (gaussian.mean, gaussian.covariance)), strict=True)
    if reference.features is not None:
        features = reference.features
        check_features(features, reference.gaussian.dimensions)
        if len(features) > KEPT:
            raise InputError(f"a reference stores the features of at most {KEPT} images, not {len(features)}")
        arrays[POOL] = (features if features.dtype == torch.float16 else features.float()).cpu().numpy()
    if reference.origin is not None:
        arrays[META] = np.array(json.dumps(dataclasses.asdict(reference.origin)))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
