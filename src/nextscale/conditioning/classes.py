"""Class labels: names to numbers, numbers to batches, and the one notion of "no class".

A model of C classes takes the labels 0..C - 1. Label C means "no class"; guidance and label drop use it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nextscale.errors import InputError, brief

UNCONDITIONAL = "unconditional"
NO_CLASS = ("none", UNCONDITIONAL)
"""Names of "no class". A class of the same name takes precedence."""
MOST_SHOWN = 12
"""Most names in a message."""

Labels = Tensor | np.ndarray | Sequence[int] | str | None
"""Class numbers (B,); or "unconditional"; or None, which stands for random classes."""

NamedLabels = Tensor | np.ndarray | Sequence[int | str] | str | None
"""`Labels` with class names allowed, and all names of "no class" for "unconditional"."""


class Streams(Protocol):
    """The part of `nextscale.sampling.rng.RandomStreams` that chooses random classes."""

    batch: int
    device: torch.device

    def labels(self, num_classes: int) -> Tensor: ...


@dataclass(frozen=True)
class ClassConditioner:
    """The conditioning of a class-conditional model.

    Args:
        num_classes: C.
    """

    num_classes: int

    def count(self, labels: Labels, num_images: int | None) -> int:
        """The batch size B, from the labels or from ``num_images``.

        Raises:
            InputError: The two disagree, or neither gives a number.
        """
        if labels is None or isinstance(labels, str):
            if labels not in (None, UNCONDITIONAL):
                raise InputError(f'labels are a list of classes, None or "unconditional", not {labels!r}')
            if not isinstance(num_images, int) or num_images < 1:
                raise InputError(f"without labels, num_images must be an integer of at least 1, not {num_images!r}")
            return num_images
        if not hasattr(labels, "__len__") or getattr(labels, "ndim", 1) != 1:
            found = f"an array of shape {tuple(labels.shape)}" if hasattr(labels, "shape") else brief(labels)  # type: ignore[union-attr]
            raise InputError(f"labels are a list with a class for each image, not {found}")
        if len(labels) == 0:
            raise InputError("expected at least one label, got none")
        if num_images not in (None, len(labels)):
            raise InputError(f"{len(labels)} labels were given for {num_images} images")
        return len(labels)

    def parse(self, labels: Labels, streams: Streams) -> Tensor:
        """Labels as (B,) int64 on the sampler's device.

        Args:
            streams: give B, the device, and random classes where ``labels`` is None.

        Raises:
            InputError: Labels that are not integers in 0..C.
        """
        if labels is None:
            return streams.labels(self.num_classes)
        if isinstance(labels, str):
            return torch.full((streams.batch,), self.num_classes, device=streams.device)
        try:
            classes = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"labels are a list of integers, not {labels!r}") from error
        if classes.ndim != 1 or classes.is_floating_point() or classes.dtype == torch.bool:
            raise InputError(f"labels are a sequence of integers, not {classes.dtype} of shape {tuple(classes.shape)}")
        if bad := [c for c in classes.tolist() if not 0 <= c <= self.num_classes]:
            raise InputError(
                f"label {bad[0]} is out of range: expected 0..{self.num_classes - 1}, "
                f"or {self.num_classes} for no class"
            )
        return classes.long().to(streams.device)

    def unconditional(self, labels: Tensor) -> Tensor:
        """ "No class" for each of the labels. (B,) -> (B,)."""
        return torch.full_like(labels, self.num_classes)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Two batches of labels as one. (A,) and (B,) -> (A + B,)."""
        return torch.cat((first, second))

    def drop(self, labels: Tensor, mask: Tensor) -> Tensor:
        """Replace the labels selected by a bool mask (B,) with "no class"."""
        return labels.masked_fill(mask.to(labels.device), self.num_classes)


@dataclass(frozen=True)
class ClassNames:
    """The names of a model's classes, in the order of their numbers."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def folded(self) -> tuple[str, ...]:
        """The names without case."""
        return tuple(name.casefold() for name in self.names)

    @property
    def no_class(self) -> str:
        """The word for "no class": "none", or "unconditional" if a class is called "none", or C if both are taken."""
        return next((word for word in NO_CLASS if word not in self.folded), str(len(self.names)))

    def is_no_class(self, name: str) -> bool:
        """Whether a name means "no class": "none" or "unconditional", in any case, unless a class has that name."""
        folded = name.casefold()
        return (folded in NO_CLASS or name == self.no_class) and folded not in self.folded

    def id_of(self, name: str) -> int:
        """The number of a class, from its name or its number in digits. C for names of "no class".

        A name matches in any case, unless that is ambiguous.

        Raises:
            InputError: There is no such class. The message lists similar names.
        """
        if name in self.names:
            return self.names.index(name)
        if self.is_no_class(name):
            return len(self.names)
        if name.removeprefix("-").isdecimal():
            if not 0 <= int(name) < len(self.names):
                raise InputError(f"label {name} is out of range: expected 0..{len(self.names) - 1}")
            return int(name)
        if self.folded.count(name.casefold()) == 1:
            return self.folded.index(name.casefold())
        close = difflib.get_close_matches(name.casefold(), dict.fromkeys(self.folded), n=3)
        similar = [
            known for fold in close for known, folded in zip(self.names, self.folded, strict=True) if folded == fold
        ]
        shown = list(dict.fromkeys(similar or self.names))[:MOST_SHOWN]
        more = ", ..." if not similar and len(self.names) > MOST_SHOWN else ""
        raise InputError(
            f"unknown class {name!r}: expected 0..{len(self.names) - 1} or a name such as {', '.join(shown)}{more}"
        )

    def ids(self, labels: NamedLabels) -> Labels:
        """Class names as numbers. "unconditional", or another name of "no class", instead of a list becomes
        "unconditional"; tensors and None pass through.

        Raises:
            InputError: An unknown name, or a class instead of a list of classes.
        """
        if isinstance(labels, str):
            if labels != UNCONDITIONAL and not self.is_no_class(labels):
                raise InputError(f'labels are a list of classes, None or "{UNCONDITIONAL}", not {labels!r}')
            return UNCONDITIONAL
        if not isinstance(labels, Sequence):
            return labels
        return [self.id_of(label) if isinstance(label, str) else label for label in labels]

    def per_variant(self, labels: NamedLabels | int, num_images: int | None) -> Labels:
        """The class of each variant of an edit, from one for all or one per variant; "unconditional" for None."""
        if labels is None:
            return UNCONDITIONAL
        if isinstance(labels, int) or (isinstance(labels, str) and not self.is_no_class(labels)):
            labels = [labels] * (1 if num_images is None else num_images)
        return self.ids(labels)

    def name_of(self, label: int) -> str:
        """The name of a class; `no_class` for C."""
        return self.names[label] if label < len(self.names) else self.no_class
